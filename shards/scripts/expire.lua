-- expire(slot, epoch, subscriber, op): the sweeper's call for what is due. With an op: a hold past its expiry gives
-- back credits and quota and becomes the tombstone `expired`, which a late settle may still charge. Without one: buckets
-- that have expired are written off.
-- → expired | open | gone | stale_epoch
local fault = callerFault(4)
if fault then return refuse(fault) end
local op = ARGV[4]
if op ~= '' then
  local operation, slice = operationOf(op)
  if not operation or slice then return refuse('op') end
end
if isStale() then return { 'stale_epoch' } end

local real = clock()
local got = call('HMGET', KEYS[1], 'o', 'b', 'r')
local offset = got[1] and tonumber(got[1]) or 0
local now = real + offset
local buckets, left = readBuckets(got[2], got[3])
local facts = {}

if op == '' then
  lapse(buckets, left, now, facts)
  scheduleLapse(buckets, left, offset)
  if #facts == 0 then return { 'gone' } end
  call('HSET', KEYS[1], 'r', packDoubles(left))
  for i = 1, #facts do append(facts[i]) end
  return { 'expired' }
end

local member = ARGV[3] .. '|' .. op
local packed, place = findOperation(op, 0)
local hold = packed and not isTombstone(packed) and cmsgpack.unpack(packed)
if not packed then
  -- The sweeper was away for longer than the record lived. What no surviving hold accounts for comes back.
  local products = recount(buckets, left, now, facts)
  for i = 1, #products do
    local fields = stateFields(products[i], { 'HSET', KEYS[1] })
    if #fields > 2 then call(unpack(fields)) end
  end
  lapse(buckets, left, now, facts)
  if got[3] then call('HSET', KEYS[1], 'r', packDoubles(left)) end
  for i = 1, #facts do append(facts[i]) end
  call('ZREM', KEYS[5], member)
  return { 'expired' }
end
if not hold or hold[1] ~= 1 then
  call('ZREM', KEYS[5], member)
  return { 'gone' }
end
if hold[8] > real then
  call('ZADD', KEYS[5], hold[8], member)
  return { 'open' }
end

local product = hold[4]
local state = fetchState(product)
local ended, cursor = {}, HOLD_HEAD + 1
for i = 1, HOLD_HEAD do ended[i] = hold[i] end
ended[1] = 2
for _ = 1, hold[HOLD_HEAD] do
  local estimate, counters, count = hold[cursor + 1], hold[cursor + 4], #ended
  -- Nothing is held any more, but a late settle needs the rate and the counters.
  ended[count + 1], ended[count + 2], ended[count + 3] = hold[cursor], 0, hold[cursor + 2]
  ended[count + 4], ended[count + 5] = 0, counters
  cursor = cursor + 5
  for i = cursor, cursor + 2 * counters - 1, 2 do
    ended[#ended + 1] = hold[i]
    ended[#ended + 1] = hold[i + 1]
    local where = counterAt(state.numbers, hold[i], hold[i + 1])
    if where then state.numbers[where + 3] = add(state.numbers[where + 3], -estimate) end
  end
  cursor = cursor + 2 * counters
  local takes = hold[cursor]
  for i = cursor + 1, cursor + 2 * takes - 1, 2 do
    giveBack(buckets, left, hold[i], hold[i + 1], now, facts)
  end
  ended[#ended + 1] = 0
  cursor = cursor + 1 + 2 * takes
end

countHold(state, hold[7], -1, 0)
local fields = stateFields(state, { 'HSET', KEYS[1] })
if hold[10] ~= '' then
  lapse(buckets, left, now, facts)
  local count = #fields
  fields[count + 1], fields[count + 2] = 'r', packDoubles(left)
end
if #fields > 2 then call(unpack(fields)) end
call('HSET', place, op, cmsgpack.pack(ended))
call('ZREM', KEYS[5], member)
for i = 1, #facts do append(facts[i]) end
return { 'expired' }
