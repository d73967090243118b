-- A product of the subscriber: `c:` the current segment, `f:` later segments, each packed by itself, without the parts
-- (7 to 13) that it has in common with the one before (false), and not decoded before the current one ends; `n:` its numbers; `p:` open holds of earlier periods, absent as a rule.
-- A segment: 1 id, 2 period, 3 from, 4 until, 5 status (0 active, 1 past due, 2 inactive), 6 overage, 7 subscription,
-- 8 features `,a,b,`, 9 unit ('' without credits), 10 low threshold, 11 burn (meter, micro per unit)…,
-- 12 rates (name, limit, window)…, 13 concurrency (name, limit)…,
-- 14 limits (name, level, meter, limit, hard, 0 span | 1 every, from | anchor, until | length)…
-- Numbers: 1 last counter id, 2 period serial, 3 open holds, 4 open holds of this period, 5 the latest expiry among
-- them, 6 where counters begin; for each rate: instant, level; for each limit: counter id, window's end, used, held.
-- A counter id is given once: a hold remembers it, and settles only into the window that it was counted in.
-- `p:`: (period serial, period, open holds, latest expiry)…
local NUMBERS_HEAD = 6
local LIMIT = 8
local COUNTER = 4
local levels = { [0] = 'subscription', [1] = 'subscriber', [2] = 'key' }

local function windowOf(limits, i, now)
  local a, b = limits[i + 6], limits[i + 7]
  if limits[i + 5] == 0 then return a, b end
  local start = a + floor((now - a) / b) * b
  return start, start + b
end

-- Numbers for a segment, taking over from the one before what has the same name, meter and window.
local function numbersFor(segment, now, before, numbers)
  local rates, limits = segment[12], segment[14]
  local new = { 0, 0, 0, 0, 0, NUMBERS_HEAD + 2 * #rates / 3 + 1 }
  if numbers then
    for i = 1, 5 do new[i] = numbers[i] end
  end
  for i = 1, #rates, 3 do
    local instant, level = 0, 0
    for j = 1, before and #before[12] or 0, 3 do
      if before[12][j] == rates[i] then
        local at = NUMBERS_HEAD + 1 + 2 * (j - 1) / 3
        instant, level = numbers[at], numbers[at + 1]
        if level > rates[i + 1] then level = rates[i + 1] end
      end
    end
    new[#new + 1] = instant
    new[#new + 1] = level
  end
  for i = 1, #limits, LIMIT do
    local from, till = windowOf(limits, i, now)
    local id, used, held
    local old = before and before[14] or {}
    for j = 1, #old, LIMIT do
      if old[j] == limits[i] and old[j + 2] == limits[i + 2] then
        local at = numbers[6] + COUNTER * (j - 1) / LIMIT
        local oldTill = numbers[at + 1]
        local oldFrom = old[j + 5] == 0 and old[j + 6] or oldTill - old[j + 7]
        if oldFrom == from and oldTill == till then
          id, used, held = numbers[at], numbers[at + 2], numbers[at + 3]
        end
      end
    end
    if not id then
      new[1] = new[1] + 1
      id, used, held = new[1], 0, 0
    end
    new[#new + 1] = id
    new[#new + 1] = till
    new[#new + 1] = used
    new[#new + 1] = held
  end
  return new
end

-- A window of fixed length that is over begins anew. A clock that stepped back changes nothing.
local function renewWindow(segment, numbers, i, at, now)
  if segment[14][i + 5] == 1 and now >= numbers[at + 1] then
    local _, till = windowOf(segment[14], i, now)
    numbers[1] = numbers[1] + 1
    numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3] = numbers[1], till, 0, 0
  end
end

-- Open holds of a period that ends are counted beside, until they end too.
local function leavePeriod(state, segment, numbers)
  if segment and numbers[4] > 0 then
    local earlier = state.earlier and cmsgpack.unpack(state.earlier) or {}
    local count = #earlier
    earlier[count + 1], earlier[count + 2] = numbers[2], segment[2]
    earlier[count + 3], earlier[count + 4] = numbers[4], numbers[5]
    state.earlier = cmsgpack.pack(earlier)
  end
  numbers[2], numbers[4], numbers[5] = numbers[2] + 1, 0, 0
end

-- state: { segment, numbers, later (packed), earlier (packed) }. Puts another segment in place of the current one.
local function enter(state, segment, text, now)
  local before = state.segment
  local numbers = numbersFor(segment, now, before, state.numbers)
  if not before or before[2] ~= segment[2] then leavePeriod(state, before, numbers) end
  state.segment, state.numbers, state.text = segment, numbers, text
end

-- Moves past every boundary that lies behind; the first call past one does it, nobody waits for a workflow at midnight.
local function advance(state, now)
  if not state.segment or now < state.segment[4] or not state.later then return end
  local later = cmsgpack.unpack(state.later)
  local index, segment = 1, state.segment
  while later[index] do
    local next = cmsgpack.unpack(later[index])
    if now < next[3] then break end
    for i = 7, 13 do
      if next[i] == false then next[i] = segment[i] end
    end
    segment, index = next, index + 1
  end
  if index == 1 then return end
  enter(state, segment, cmsgpack.pack(segment), now)
  local rest = {}
  for i = index, #later do rest[#rest + 1] = later[i] end
  state.later = #rest > 0 and cmsgpack.pack(rest) or false
  state.isNew = true
end

-- The later segments as `f:` holds them, from a list in which the one before the first lies at `index`.
local function packLater(segments, index)
  local later = {}
  for i = index + 1, #segments do
    local segment = {}
    for j = 1, 14 do segment[j] = segments[i][j] end
    for j = 7, 13 do
      if cmsgpack.pack(segment[j]) == cmsgpack.pack(segments[i - 1][j]) then segment[j] = false end
    end
    later[#later + 1] = cmsgpack.pack(segment)
  end
  return #later > 0 and cmsgpack.pack(later) or false
end

local function readState(product, c, n, f, p)
  return {
    product = product,
    segment = c and cmsgpack.unpack(c) or nil,
    numbers = n and doubles(n) or nil,
    later = f,
    earlier = p,
  }
end

local function fetchState(product)
  local got =
    call('HMGET', KEYS[1], 'c:' .. product, 'n:' .. product, 'f:' .. product, 'p:' .. product)
  return readState(product, got[1], got[2], got[3], got[4])
end

-- Adds the fields of a product to an HSET; the segments only when another one was entered.
local function stateFields(state, fields)
  local product, count = state.product, #fields
  if state.numbers then
    fields[count + 1], fields[count + 2] = 'n:' .. product, packDoubles(state.numbers)
  end
  if state.isNew then
    count = #fields
    fields[count + 1], fields[count + 2] = 'c:' .. product, state.text
    if state.later then
      fields[count + 3], fields[count + 4] = 'f:' .. product, state.later
    else
      call('HDEL', KEYS[1], 'f:' .. product)
    end
    if state.earlier then
      count = #fields
      fields[count + 1], fields[count + 2] = 'p:' .. product, state.earlier
    end
  end
  return fields
end

-- Another open hold (change 1) or one less (−1), in its own period.
local function countHold(state, serial, change, expiry)
  local numbers = state.numbers
  if not numbers then return end
  numbers[3] = numbers[3] + change
  if numbers[3] < 0 then numbers[3] = 0 end
  if numbers[2] == serial then
    numbers[4] = numbers[4] + change
    if numbers[4] < 0 then numbers[4] = 0 end
    if expiry > numbers[5] then numbers[5] = expiry end
    return
  end
  local stored = state.earlier or call('HGET', KEYS[1], 'p:' .. state.product)
  if not stored then return end
  local earlier, rest = cmsgpack.unpack(stored), {}
  for i = 1, #earlier, 4 do
    local open, last = earlier[i + 2], earlier[i + 3]
    if earlier[i] == serial then
      open = open + change
      if expiry > last then last = expiry end
    end
    if open > 0 then
      local count = #rest
      rest[count + 1], rest[count + 2], rest[count + 3], rest[count + 4] =
        earlier[i], earlier[i + 1], open, last
    end
  end
  if #rest > 0 then
    state.earlier = cmsgpack.pack(rest)
    call('HSET', KEYS[1], 'p:' .. state.product, state.earlier)
  else
    state.earlier = false
    call('HDEL', KEYS[1], 'p:' .. state.product)
  end
end

-- Where the counter with this id lies, nil when its window is over.
local function counterAt(numbers, index, id)
  if not numbers then return nil end
  local first = numbers[6]
  if index >= first and (index - first) % COUNTER == 0 and numbers[index] == id then return index end
  for at = first, #numbers, COUNTER do
    if numbers[at] == id then return at end
  end
  return nil
end

local function add(value, change)
  local sum = value + change
  if sum < 0 then return 0 end
  return sum > MAX and MAX or sum
end
