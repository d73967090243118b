-- read(slot, epoch, subscriber): what the shard holds of one subscriber at this instant, in JSON with numbers as digits.
-- Writes nothing. → state, json | none | stale_epoch
local fault = callerFault(3)
if fault then return refuse(fault) end
if #ARGV ~= 3 then return refuse('count') end
if isStale() then return { 'stale_epoch' } end

local stored = call('HGETALL', KEYS[1])
if #stored == 0 then return { 'none' } end
local field = {}
for i = 1, #stored, 2 do field[stored[i]] = stored[i + 1] end
local function text(number) return format('%.0f', number) end
local offset = field['o'] and tonumber(field['o']) or 0
local now = clock() + offset
local statuses = { [0] = 'active', [1] = 'past_due', [2] = 'inactive' }

local function limitsOf(segment, numbers)
  local limits, list, at = segment[14], {}, numbers[6]
  for i = 1, #limits, LIMIT do
    renewWindow(segment, numbers, i, at, now)
    list[#list + 1] = {
      name = limits[i], meter = limits[i + 2], limit = text(limits[i + 3]), hard = limits[i + 4] == 1,
      used = text(numbers[at + 2]), held = text(numbers[at + 3]), resetMs = text(numbers[at + 1] - offset),
    }
    at = at + COUNTER
  end
  return list
end

local names, products = {}, {}
for name in pairs(field) do
  if sub(name, 1, 2) == 'c:' then names[#names + 1] = sub(name, 3) end
end
table.sort(names)
for _, product in ipairs(names) do
  local state = readState(
    product, field['c:' .. product], field['n:' .. product], field['f:' .. product], field['p:' .. product]
  )
  advance(state, now)
  local segment, features = state.segment, {}
  for feature in string.gmatch(segment[8], '[^,]+') do features[#features + 1] = feature end
  products[#products + 1] = {
    productId = product, segmentId = segment[1], untilMs = text(segment[4]),
    status = statuses[segment[5]], overage = segment[6] == 1, features = features,
    openHolds = text(state.numbers[3]), limits = limitsOf(segment, state.numbers),
  }
end

local buckets, left = readBuckets(field['b'], field['r'])
local list, at = {}, 2
for i = 1, #buckets, BUCKET do
  local expires = buckets[i + 2]
  local isOver = expires > 0 and expires <= now
  list[#list + 1] = {
    id = buckets[i], unit = buckets[i + 1], availableMicro = text(isOver and 0 or left[at]),
    heldMicro = text(left[at + 1]), expiresMs = expires > 0 and text(expires) or cjson.null,
  }
  at = at + 2
end
return {
  'state',
  cjson.encode({
    version = field['v'] or '0', coreSeq = field['g'] or '0', products = products, buckets = list,
  }),
}
