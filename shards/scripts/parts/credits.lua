-- Credits lie in buckets, in burn-down order: `b` holds what each is (seven fields), `r` a flag (1: said to be low) and
-- for each bucket what is available and what is held, as doubles.
-- Fields of a bucket: 1 id, 2 unit, 3 expires (0: never), 4 effective, 5 scope `,a,b,` (empty: every meter), 6 priority,
-- 7 class (0 promotional, 1 paid).
local BUCKET = 7

local function readBuckets(b, r)
  return b and cmsgpack.unpack(b) or {}, r and doubles(r) or { 0 }
end

local function isSpendable(buckets, i, unit, now)
  return buckets[i + 1] == unit
    and buckets[i + 3] <= now
    and (buckets[i + 2] == 0 or now < buckets[i + 2])
end

-- Takes up to `need` from the front. `share` 1 puts it aside as held, 0 spends it. Gives what could not be had.
local function take(buckets, left, need, from)
  local at = 2
  for i = 1, #buckets, BUCKET do
    if need <= 0 then return 0 end
    local free = left[at]
    if
      free > 0
      and isSpendable(buckets, i, from.unit, from.now)
      and (buckets[i + 4] == '' or find(buckets[i + 4], ',' .. from.meter .. ',', 1, true))
    then
      local part = free < need and free or need
      left[at] = free - part
      left[at + 1] = left[at + 1] + part * from.share
      need = need - part
      local takes = from.takes
      takes[#takes + 1] = buckets[i]
      takes[#takes + 1] = part
    end
    at = at + 2
  end
  return need
end

-- What is available and what is held in this unit, for this meter or (nil) for any.
local function balance(buckets, left, unit, now, meter)
  local free, held, at = 0, 0, 2
  for i = 1, #buckets, BUCKET do
    if
      buckets[i + 1] == unit
      and (not meter or buckets[i + 4] == '' or find(buckets[i + 4], ',' .. meter .. ',', 1, true))
    then
      if isSpendable(buckets, i, unit, now) then free = free + left[at] end
      held = held + left[at + 1]
    end
    at = at + 2
  end
  return free, held
end

-- Where a bucket's remainder lies in `left`, and its place in `buckets`; nil when there is no such bucket.
local function bucketAt(buckets, id)
  local at = 2
  for i = 1, #buckets, BUCKET do
    if buckets[i] == id then return at, i end
    at = at + 2
  end
  return nil, nil
end

local function expiredFact(bucket, micro, now)
  return format('e|%s|%s|%.0f|%.0f', ARGV[3], bucket, micro, now)
end

-- What was held comes back; `lapse`, which every caller runs after, passes it on if the bucket expired meanwhile.
local function giveBack(buckets, left, id, micro, now, facts)
  local at = bucketAt(buckets, id)
  if at then
    left[at] = left[at] + micro
    left[at + 1] = left[at + 1] - micro
  else
    facts[#facts + 1] = expiredFact(id, micro, now)
  end
end

-- Writes off what is left of buckets that have expired.
local function lapse(buckets, left, now, facts)
  local at = 2
  for i = 1, #buckets, BUCKET do
    if left[at] > 0 and buckets[i + 2] > 0 and buckets[i + 2] <= now then
      facts[#facts + 1] = expiredFact(buckets[i], left[at], now)
      left[at] = 0
    end
    at = at + 2
  end
end

-- The sweeper hears of the next bucket to expire, so that an idle subscriber's credits lapse in time too.
local function scheduleLapse(buckets, left, offset)
  local first, at = 0, 2
  for i = 1, #buckets, BUCKET do
    local expires = buckets[i + 2]
    if left[at] > 0 and expires > 0 and (first == 0 or expires < first) then first = expires end
    at = at + 2
  end
  local member = ARGV[3] .. '|'
  if first == 0 then
    call('ZREM', KEYS[5], member)
  else
    local due = first - offset
    call('ZADD', KEYS[5], due > 0 and due or 0, member)
  end
end

-- An edge: said once when what is not spent falls to the threshold, again only after it rose above it.
local function noteLow(left, unspent, threshold, now, facts)
  if unspent > threshold then
    left[1] = 0
  elseif left[1] == 0 then
    left[1] = 1
    facts[#facts + 1] = format('l|%s|%.0f|%.0f', ARGV[3], unspent, now)
  end
end
