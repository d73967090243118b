-- settle(slot, epoch, subscriber, op, generation, at_ms, segment, subscription, product, key, verb, status, flags,
--        n, (meter, actual) × n)
-- verb: settle, release, slice (op is `<op>.<k>`: settles what was used so far and holds the estimates anew),
-- extend (no meters: the hold lives on for its ttl). Rates and takes come from the hold; constraints are not read.
-- → ok, charged, overage, written_off, available, stream_id | already, verb, charged | late, charged, stream_id
--   | recorded, stream_id | short | stale_epoch
local fault = callerFault(14)
if fault then return refuse(fault) end
local op, generation, at, verb, flags = ARGV[4], digits(ARGV[5]), digits(ARGV[6]), ARGV[11], ARGV[13]
local operation, slice = operationOf(op)
if not operation then return refuse('op') end
if not generation then return refuse('generation') end
if not at then return refuse('at_ms') end
if ARGV[7] ~= '' and not isRow(ARGV[7]) then return refuse('segment') end
if ARGV[8] ~= '' and not isSubscription(ARGV[8]) then return refuse('subscription') end
if not isProduct(ARGV[9]) then return refuse('product') end
if ARGV[10] ~= '' and not isKey(ARGV[10]) then return refuse('key') end
if verb ~= 'settle' and verb ~= 'release' and verb ~= 'slice' and verb ~= 'extend' then
  return refuse('verb')
end
if (verb == 'slice') ~= (slice ~= nil) then return refuse('op') end
local status = digits(ARGV[12])
if not status or status > 999 then return refuse('status') end
if flags ~= '' and flags ~= 'estimated' then return refuse('flags') end
local meters = readMeters(14)
if not meters then return refuse('meters') end
if verb == 'extend' and #meters > 0 then return refuse('meters') end
if isStale() then return { 'stale_epoch' } end

local packed, place = findOperation(operation, generation)
local real = clock()
local function mark(key) return call('HGET', key, '#') end

-- A tombstone answers before anything else is judged.
if packed and isTombstone(packed) then
  return { 'already', ended[sub(packed, 1, 1)], tonumber(sub(packed, 2)) }
end
if slice and findOperation(op, generation) then return { 'already', 'recorded', 0 } end
local hold = packed and cmsgpack.unpack(packed)
if hold and slice and slice <= hold[11] then return { 'already', 'slice', 0 } end

local function flagged(more)
  if flags == '' then return more end
  return more == '' and flags or flags .. ',' .. more
end
local function usageFact(id, subscription, segment, atMs, product, key, takes, overage, written, more)
  local quantities, spent = {}, {}
  for i = 1, #meters, 2 do
    quantities[#quantities + 1] = format('%s:%.0f', meters[i], meters[i + 1])
  end
  for i = 1, #takes, 2 do spent[#spent + 1] = format('%s:%.0f', takes[i], takes[i + 1]) end
  return format(
    'u|%s|%s|%s|%s|%.0f|%s|%s|%.0f|%s|%s|%.0f|%.0f|%s',
    id, ARGV[3], subscription, segment, atMs, product, key, status,
    table.concat(quantities, ','), table.concat(spent, ','), overage, written, flagged(more)
  )
end

-- No record at all.
if not hold then
  if verb == 'extend' then return { 'short' } end
  local now, current = generationAt(real)
  if verb == 'release' then
    -- The tombstone: an authorize that arrives after it is a duplicate.
    writeOperation(current, mark(current), now, operation, 'r0')
    return { 'ok', 0, 0, 0, false, '' }
  end
  -- The shard debits only against what it holds: the fact goes on, Postgres charges it through the core log.
  writeOperation(current, mark(current), now, op, 'u0')
  local more = slice and 'unheld,slice' or 'unheld'
  return {
    'recorded',
    append(usageFact(op, ARGV[8], ARGV[7], at, ARGV[9], ARGV[10], {}, 0, 0, more)),
  }
end

local isOpen = hold[1] == 1
if not isOpen and verb == 'release' then return { 'already', 'expired', 0 } end
if not isOpen and verb ~= 'settle' then return { 'short' } end

local product, unit = hold[4], hold[10]
local got = call('HMGET', KEYS[1], 'n:' .. product, 'o', 'b', 'r')
local now = real + (got[2] and tonumber(got[2]) or 0)
local state = { product = product, numbers = got[1] and doubles(got[1]) or nil }
local buckets, left
if unit ~= '' then buckets, left = readBuckets(got[3], got[4]) end

if verb == 'extend' then
  local generationNow, current = generationAt(real)
  hold[8] = real + hold[12]
  countHold(state, hold[7], 0, hold[8])
  local fields = stateFields(state, { 'HSET', KEYS[1] })
  if #fields > 2 then call(unpack(fields)) end
  if current ~= place then call('HDEL', place, operation) end
  writeOperation(current, mark(current), generationNow, operation, cmsgpack.pack(hold))
  call('ZADD', KEYS[5], hold[8], ARGV[3] .. '|' .. operation)
  return { 'ok', 0, 0, 0, unit ~= '' and balance(buckets, left, unit, now) or false, '' }
end

-- Each meter of the hold: its counters go from held to used; its takes are kept from the front and given back from the
-- back; what is above the hold is taken while credits last, the rest is overage, or written off.
local facts, spent, estimates = {}, {}, {}
local charged, overage, written, cost = 0, 0, 0, 0
local isRelease = verb == 'release'

local function spend(bucket, micro)
  charged = charged + micro
  for i = 1, #spent, 2 do
    if spent[i] == bucket then
      spent[i + 1] = spent[i + 1] + micro
      return
    end
  end
  local count = #spent
  spent[count + 1], spent[count + 2] = bucket, micro
end

local function settleTakes(cursor, count, cost)
  local rest = cost
  for i = cursor, cursor + 2 * count - 1, 2 do
    local micro = hold[i + 1]
    local kept = rest < micro and rest or micro
    if kept > 0 then
      local bucket = bucketAt(buckets, hold[i])
      if bucket then left[bucket + 1] = left[bucket + 1] - kept end
      spend(hold[i], kept)
    end
    if micro > kept then giveBack(buckets, left, hold[i], micro - kept, now, facts) end
    rest = rest - kept
  end
  return rest
end

local function settleExcess(meter, excess)
  local takes = {}
  local short = take(buckets, left, excess, {
    unit = unit, now = now, meter = meter, share = 0, takes = takes,
  })
  for i = 1, #takes, 2 do spend(takes[i], takes[i + 1]) end
  if hold[9] == 1 then overage = overage + short else written = written + short end
end

local cursor = HOLD_HEAD + 1
for _ = 1, hold[HOLD_HEAD] do
  local meter, estimate, rate, heldOverage = hold[cursor], hold[cursor + 1], hold[cursor + 2], hold[cursor + 3]
  local counters = hold[cursor + 4]
  local actual = 0
  for i = 1, #meters, 2 do
    if meters[i] == meter then actual = meters[i + 1] end
  end
  if isRelease then actual = 0 end
  cost = cost + actual * rate
  if cost > MAX then return refuse('cost') end
  local count = #estimates
  estimates[count + 1], estimates[count + 2] = meter, estimate
  cursor = cursor + 5
  for i = cursor, cursor + 2 * counters - 1, 2 do
    local where = counterAt(state.numbers, hold[i], hold[i + 1])
    if where then
      state.numbers[where + 2] = add(state.numbers[where + 2], actual)
      state.numbers[where + 3] = add(state.numbers[where + 3], -estimate)
    end
  end
  cursor = cursor + 2 * counters
  local takes = hold[cursor]
  if unit ~= '' and rate > 0 then
    local rest = settleTakes(cursor + 1, takes, actual * rate)
    -- The split that the hold made stands: a top-up meanwhile does not recolour it.
    local over = rest < heldOverage and rest or heldOverage
    overage = overage + over
    if rest > over then settleExcess(meter, rest - over) end
  end
  cursor = cursor + 1 + 2 * takes
end

-- A slice holds the same estimates anew, in the segment of now.
local renewed, isShort
if slice then
  local more = call('HMGET', KEYS[1], 'c:' .. product, 'f:' .. product, 'p:' .. product, 'o')
  local offset = more[4] and tonumber(more[4]) or 0
  if more[1] then
    state.segment = cmsgpack.unpack(more[1])
    state.later, state.earlier = more[2], more[3]
    advance(state, now)
  end
  local segment, numbers = state.segment, state.numbers
  isShort = not segment or now >= segment[4] or segment[5] ~= 0 or segment[9] ~= unit
  if not isShort then
    renewed = {
      1, segment[1], now, product, segment[7], hold[6], numbers[2], real + hold[12], segment[6],
      unit, slice, hold[12], segment[10], #estimates / 2,
    }
    local numbersBefore, leftBefore = packDoubles(numbers), left and packDoubles(left)
    isShort = holdMeters(renewed, estimates, {
      segment = segment, numbers = numbers, buckets = buckets, left = left,
      stored = leftBefore, now = now, offset = offset,
    }) ~= nil
    if isShort then
      state.numbers, left = doubles(numbersBefore), leftBefore and doubles(leftBefore)
    end
  end
end

-- From here on it must succeed.
if isOpen then countHold(state, hold[7], -1, 0) end
local available = false
if unit ~= '' then
  lapse(buckets, left, now, facts)
  local free, held = balance(buckets, left, unit, now)
  available = free
  if not isRelease then noteLow(left, free + held, hold[13], now, facts) end
end
if slice and not isShort then countHold(state, renewed[7], 1, renewed[8]) end
local fields = stateFields(state, { 'HSET', KEYS[1] })
if unit ~= '' then
  local count = #fields
  fields[count + 1], fields[count + 2] = 'r', packDoubles(left)
end
if #fields > 2 then call(unpack(fields)) end

local streamId = ''
if not isRelease then
  local more = slice and 'slice' or ''
  if not isOpen then more = 'late' end
  streamId = append(
    usageFact(op, hold[5], hold[2], hold[3], product, hold[6], spent, overage, written, more)
  )
end
for i = 1, #facts do append(facts[i]) end

if slice and not isShort then
  local generationNow, current = generationAt(real)
  if current ~= place then call('HDEL', place, operation) end
  writeOperation(current, mark(current), generationNow, operation, cmsgpack.pack(renewed))
  call('ZADD', KEYS[5], renewed[8], ARGV[3] .. '|' .. operation)
else
  local letter = isRelease and 'r' or (isOpen and 's' or 'l')
  call('HSET', place, operation, format('%s%.0f', letter, charged))
  if isOpen then call('ZREM', KEYS[5], ARGV[3] .. '|' .. operation) end
end
if isShort then return { 'short' } end
if not isOpen then return { 'late', charged, streamId } end
return { 'ok', charged, overage, written, available, streamId }
