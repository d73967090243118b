-- record(slot, epoch, subscriber, op, product, at_ms, n, (meter, quantity) × n): work that did not pass the gateway.
-- Counted like settled use and never refused; past a hard limit it is marked. Outside the current segment it is passed on
-- without being counted or named: Postgres finds subscription and segment by product and instant.
-- → ok, over_limit, charged, overage, stream_id | already | stale_epoch
local fault = callerFault(7)
if fault then return refuse(fault) end
local op, product, at = ARGV[4], ARGV[5], digits(ARGV[6])
local operation, slice = operationOf(op)
if not operation or slice then return refuse('op') end
if not isProduct(product) then return refuse('product') end
if not at then return refuse('at_ms') end
local meters = readMeters(7)
if not meters then return refuse('meters') end
if isStale() then return { 'stale_epoch' } end

local real = clock()
local generation, current, other = generationAt(real)
local known = call('HMGET', current, op, '#')
if known[1] or call('HEXISTS', other, op) == 1 then return { 'already' } end

local got = call('HMGET', KEYS[1], 'b', 'r', 'o')
local now = real + (got[3] and tonumber(got[3]) or 0)
local state = fetchState(product)
advance(state, now)
local segment, numbers = state.segment, state.numbers
local isCounted = segment and at >= segment[3] and at < segment[4]

local isOver, overage, written, charged = false, 0, 0, 0
local facts, spent, buckets, left = {}, {}, nil, nil
if isCounted then
  local limits, where = segment[14], numbers[6]
  local burn, unit, total = segment[11], segment[9], 0
  for m = 1, #meters, 2 do
    for i = 1, #burn, 2 do
      if burn[i] == meters[m] then total = total + meters[m + 1] * burn[i + 1] end
    end
  end
  if total > MAX then return refuse('cost') end
  for i = 1, #limits, LIMIT do
    renewWindow(segment, numbers, i, where, now)
    local from = limits[i + 5] == 1 and numbers[where + 1] - limits[i + 7] or 0
    for m = 1, #meters, 2 do
      if meters[m] == limits[i + 2] and at >= from then
        numbers[where + 2] = add(numbers[where + 2], meters[m + 1])
        if limits[i + 4] == 1 and numbers[where + 2] + numbers[where + 3] > limits[i + 3] then
          isOver = true
        end
      end
    end
    where = where + COUNTER
  end
  if total > 0 then
    buckets, left = readBuckets(got[1], got[2])
    lapse(buckets, left, now, facts)
    local short = 0
    for m = 1, #meters, 2 do
      for i = 1, #burn, 2 do
        if burn[i] == meters[m] then
          short = short + take(buckets, left, meters[m + 1] * burn[i + 1], {
            unit = unit, now = now, meter = meters[m], share = 0, takes = spent,
          })
        end
      end
    end
    charged = total - short
    if segment[6] == 1 then overage = short else written = short end
    local free, held = balance(buckets, left, unit, now)
    noteLow(left, free + held, segment[10], now, facts)
  end
end

-- From here on it must succeed.
local quantities, takes, byBucket = {}, {}, {}
for i = 1, #meters, 2 do
  quantities[#quantities + 1] = format('%s:%.0f', meters[i], meters[i + 1])
end
for i = 1, #spent, 2 do
  local place = byBucket[spent[i]]
  if place then
    spent[place] = spent[place] + spent[i + 1]
  else
    byBucket[spent[i]] = i + 1
  end
end
for i = 1, #spent, 2 do
  if byBucket[spent[i]] == i + 1 then
    takes[#takes + 1] = format('%s:%.0f', spent[i], spent[i + 1])
  end
end
local fields = stateFields(state, { 'HSET', KEYS[1] })
if left then
  local count = #fields
  fields[count + 1], fields[count + 2] = 'r', packDoubles(left)
end
if #fields > 2 then call(unpack(fields)) end
writeOperation(current, known[2], generation, op, format('s%.0f', charged))
local streamId = append(format(
  'u|%s|%s|%s|%s|%.0f|%s||0|%s|%s|%.0f|%.0f|%s',
  op, ARGV[3], isCounted and segment[7] or '', isCounted and segment[1] or '', at, product,
  table.concat(quantities, ','), table.concat(takes, ','), overage, written,
  isOver and 'external,over_limit' or 'external'
))
for i = 1, #facts do append(facts[i]) end
return { 'ok', isOver and 1 or 0, charged, overage, streamId }
