-- credit(slot, epoch, subscriber, seq, grant|void|debit, bucket, unit, priority, class, effective, expires, scope, amount)
-- One entry of the core log, in order: only g + 1 is applied.
-- → applied, taken, available | already | gap, g | stale_epoch
local BUCKETS_MAX = 64
local fault = callerFault(13)
if fault then return refuse(fault) end
local seq, verb, id, unit, class = digits(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[9]
local priority, effective, expires, amount =
  digits(ARGV[8]), digits(ARGV[10]), digits(ARGV[11]), digits(ARGV[13])
if #ARGV ~= 13 then return refuse('count') end
if not seq or seq < 1 then return refuse('seq') end
if verb ~= 'grant' and verb ~= 'void' and verb ~= 'debit' then return refuse('verb') end
if not isRow(id) then return refuse('bucket') end
if not isName(unit) then return refuse('unit') end
if not priority then return refuse('priority') end
if class ~= 'promotional' and class ~= 'paid' then return refuse('class') end
if not effective then return refuse('effective') end
if not expires then return refuse('expires') end
if #ARGV[12] > 1024 then return refuse('scope') end
local scope = ''
if ARGV[12] ~= '' then
  for meter in string.gmatch(ARGV[12] .. ',', '([^,]*),') do
    if not isMeter(meter) then return refuse('scope') end
  end
  scope = ',' .. ARGV[12] .. ','
end
if not amount then return refuse('amount') end
if isStale() then return { 'stale_epoch' } end

local got = call('HMGET', KEYS[1], 'g', 'b', 'r', 'o')
local applied = tonumber(got[1] or 0)
if seq <= applied then return { 'already' } end
if seq > applied + 1 then return { 'gap', applied } end

local offset = got[4] and tonumber(got[4]) or 0
local now = clock() + offset
local buckets, left = readBuckets(got[2], got[3])
local facts, taken = {}, 0
local kind = class == 'paid' and 1 or 0

-- Burn-down order: priority, soonest expiry (never comes last), promotional before paid, oldest id.
local function comesBefore(i)
  if priority ~= buckets[i + 5] then return priority < buckets[i + 5] end
  local a, b = expires, buckets[i + 2]
  if a ~= b then
    if a == 0 or b == 0 then return b == 0 end
    return a < b
  end
  if kind ~= buckets[i + 6] then return kind < buckets[i + 6] end
  if #id ~= #buckets[i] then return #id < #buckets[i] end
  return id < buckets[i]
end

-- Buckets with nothing left and nothing held are forgotten, unless they are the one meant.
local function withoutEmpty()
  local keptBuckets, keptLeft, at = {}, { left[1] }, 2
  for i = 1, #buckets, BUCKET do
    if left[at] > 0 or left[at + 1] > 0 or buckets[i] == id then
      for j = 0, BUCKET - 1 do keptBuckets[#keptBuckets + 1] = buckets[i + j] end
      keptLeft[#keptLeft + 1] = left[at]
      keptLeft[#keptLeft + 1] = left[at + 1]
    end
    at = at + 2
  end
  buckets, left = keptBuckets, keptLeft
end

local at, index = bucketAt(buckets, id)
if verb == 'grant' then
  local total = 0
  for i = 2, #left do total = total + left[i] end
  if total + amount > MAX then return refuse('amount') end
  if at then
    if buckets[index + 1] ~= unit then return refuse('unit') end
    left[at] = left[at] + amount
  else
    lapse(buckets, left, now, facts)
    withoutEmpty()
    if #buckets / BUCKET >= BUCKETS_MAX then return refuse('bucket') end
    local place = #buckets + 1
    for i = #buckets - BUCKET + 1, 1, -BUCKET do
      if comesBefore(i) then place = i end
    end
    local fields = { id, unit, expires, effective, scope, priority, kind }
    for j = BUCKET, 1, -1 do table.insert(buckets, place, fields[j]) end
    local where = 2 + 2 * (place - 1) / BUCKET
    table.insert(left, where, 0)
    table.insert(left, where, amount)
  end
else
  if at then
    taken = left[at] < amount and left[at] or amount
    left[at] = left[at] - taken
  end
  facts[#facts + 1] = format('d|%s|%.0f|%s|%.0f|%.0f', ARGV[3], seq, id, taken, now)
end

-- From here on it must succeed.
lapse(buckets, left, now, facts)
local free, held = balance(buckets, left, unit, now)
if free + held > 0 then left[1] = 0 end
call(
  'HSET', KEYS[1], 'g', ARGV[4], 'b', cmsgpack.pack(buckets), 'r', packDoubles(left)
)
scheduleLapse(buckets, left, offset)
for i = 1, #facts do append(facts[i]) end
return { 'applied', taken, free }
