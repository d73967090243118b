-- apply(slot, epoch, subscriber, json): the compiled constraints of one subscriber, every number in it as digits. Newest
-- wins. What lies behind the shard's clock is history: a change that would alter it answers boundary_passed.
-- → applied | older | same | boundary_passed, now_ms | stale_epoch
local PRODUCTS_MAX, SEGMENTS_MAX, KEYS_MAX, LIST_MAX = 32, 5, 256, 128
local fault = callerFault(4)
if fault then return refuse(fault) end
if #ARGV ~= 4 then return refuse('count') end
local isJson, wanted = pcall(cjson.decode, ARGV[4])
if not isJson or type(wanted) ~= 'table' then return refuse('json') end

local function isText(value) return type(value) == 'string' end
local function number(value) return isText(value) and digits(value) or nil end
local function list(value, max)
  return type(value) == 'table' and #value <= max and value or nil
end
-- Names of rates are for people.
local function isLabel(value)
  return isText(value) and #value >= 1 and #value <= 80 and not find(value, '%c')
end

local function packRates(rates)
  local flat, concurrency = {}, {}
  if not list(rates, LIST_MAX) then return nil, 'rates' end
  for _, rate in ipairs(rates) do
    if type(rate) ~= 'table' or not isLabel(rate.name) then return nil, 'rates.name' end
    local limit, window = number(rate.limit), number(rate.windowMs)
    if not limit then return nil, 'rates.limit' end
    if rate.kind == 'rate' then
      if not window or window < 1 then return nil, 'rates.windowMs' end
      local n = #flat
      flat[n + 1], flat[n + 2], flat[n + 3] = rate.name, limit, window
    elseif rate.kind == 'concurrency' then
      local n = #concurrency
      concurrency[n + 1], concurrency[n + 2] = rate.name, limit
    else
      return nil, 'rates.kind'
    end
  end
  return flat, concurrency
end

local levelNumbers = { subscription = 0, subscriber = 1, key = 2 }
local function packLimits(limits)
  local flat = {}
  if not list(limits, LIST_MAX) then return nil, 'limits' end
  for _, limit in ipairs(limits) do
    if type(limit) ~= 'table' or not isLabel(limit.name) then return nil, 'limits.name' end
    local level = isText(limit.level) and levelNumbers[limit.level]
    if not level then return nil, 'limits.level' end
    if not isText(limit.meter) or not isMeter(limit.meter) then return nil, 'limits.meter' end
    local most, window, a, b = number(limit.limit), limit.window, nil, nil
    if not most then return nil, 'limits.limit' end
    if type(limit.hard) ~= 'boolean' then return nil, 'limits.hard' end
    if type(window) ~= 'table' then return nil, 'limits.window' end
    if window.kind == 'span' then
      a, b = number(window.fromMs), number(window.untilMs)
      if not a or not b or b <= a then return nil, 'limits.window' end
    elseif window.kind == 'every' then
      a, b = number(window.anchorMs), number(window.lengthMs)
      if not a or not b or b < 1 then return nil, 'limits.window' end
    else
      return nil, 'limits.window'
    end
    local n = #flat
    flat[n + 1], flat[n + 2], flat[n + 3], flat[n + 4] = limit.name, level, limit.meter, most
    flat[n + 5], flat[n + 6] = limit.hard and 1 or 0, window.kind == 'every' and 1 or 0
    flat[n + 7], flat[n + 8] = a, b
  end
  return flat
end

local function packCredits(credits)
  if credits == cjson.null then return '', 0, {} end
  if type(credits) ~= 'table' or not isText(credits.unit) or not isName(credits.unit) then
    return nil, 'credits.unit'
  end
  local low = credits.lowMicro == nil and 0 or number(credits.lowMicro)
  if not low then return nil, 'credits.lowMicro' end
  if not list(credits.rates, LIST_MAX) then return nil, 'credits.rates' end
  local burn = {}
  for _, rate in ipairs(credits.rates) do
    if type(rate) ~= 'table' or not isText(rate.meter) or not isMeter(rate.meter) then
      return nil, 'credits.rates.meter'
    end
    local micro, n = number(rate.microPerUnit), #burn
    if not micro then return nil, 'credits.rates.microPerUnit' end
    burn[n + 1], burn[n + 2] = rate.meter, micro
  end
  return credits.unit, low, burn
end

local statusNumbers = { active = 0, past_due = 1, inactive = 2 }
-- The segment in the shard's form, or nil and what is wrong.
local function packSegment(segment, subscription)
  if type(segment) ~= 'table' then return nil, 'segments' end
  local from, till = number(segment.fromMs), number(segment.untilMs)
  if not isText(segment.segmentId) or not isRow(segment.segmentId) then return nil, 'segmentId' end
  if not isText(segment.periodId) or not isPeriod(segment.periodId) then return nil, 'periodId' end
  if not from then return nil, 'fromMs' end
  if not till or till <= from then return nil, 'untilMs' end
  local status = isText(segment.status) and statusNumbers[segment.status]
  if not status then return nil, 'status' end
  if type(segment.overage) ~= 'boolean' then return nil, 'overage' end
  if not list(segment.features, LIST_MAX) then return nil, 'features' end
  for _, feature in ipairs(segment.features) do
    if not isText(feature) or not isName(feature) then return nil, 'features' end
  end
  local features = #segment.features > 0 and ',' .. table.concat(segment.features, ',') .. ',' or ''
  local unit, low, burn = packCredits(segment.credits)
  if not unit then return nil, low end
  local rates, concurrency = packRates(segment.rates)
  if not rates then return nil, concurrency end
  local limits, what = packLimits(segment.limits)
  if not limits then return nil, what end
  return {
    segment.segmentId, segment.periodId, from, till, status, segment.overage and 1 or 0,
    subscription, features, unit, low, burn, rates, concurrency, limits,
  }
end

local function packProduct(product)
  if type(product) ~= 'table' then return nil, 'products' end
  if not isText(product.productId) or not isProduct(product.productId) then
    return nil, 'productId'
  end
  if not isText(product.subscriptionId) or not isSubscription(product.subscriptionId) then
    return nil, 'subscriptionId'
  end
  if not list(product.segments, SEGMENTS_MAX) or #product.segments == 0 then
    return nil, 'segments'
  end
  local segments = {}
  for i, segment in ipairs(product.segments) do
    local packed, what = packSegment(segment, product.subscriptionId)
    if not packed then return nil, what end
    if i > 1 and packed[3] < segments[i - 1][4] then return nil, 'segments overlap' end
    segments[i] = packed
  end
  return { id = product.productId, segments = segments }
end

local function packKey(key)
  if type(key) ~= 'table' or not isText(key.keyId) or not isKey(key.keyId) then return nil, 'keyId' end
  local digest = key.digest16
  if not isText(digest) or #digest ~= 22 or not find(digest, '^[%w_%-]+$') then
    return nil, 'digest16'
  end
  local expires = key.expiresMs == cjson.null and 0 or number(key.expiresMs)
  if not expires then return nil, 'expiresMs' end
  if not list(key.productIds, PRODUCTS_MAX) then return nil, 'productIds' end
  for _, product in ipairs(key.productIds) do
    if not isText(product) or not isProduct(product) then return nil, 'productIds' end
  end
  return format('%s|%.0f|%s', key.keyId, expires, table.concat(key.productIds, ','))
end

local version = number(wanted.version)
if not version then return refuse('version') end
if wanted.subscriberId ~= ARGV[3] then return refuse('subscriberId') end
local offset = wanted.clockOffsetMs
local isBehind = isText(offset) and sub(offset, 1, 1) == '-'
offset = isText(offset) and digits(isBehind and sub(offset, 2) or offset)
if not offset then return refuse('clockOffsetMs') end
if isBehind then offset = -offset end
if not list(wanted.products, PRODUCTS_MAX) then return refuse('products') end
if not list(wanted.keys, KEYS_MAX) then return refuse('keys') end
local products, isWanted, keyRecords = {}, {}, {}
for i, product in ipairs(wanted.products) do
  local packed, what = packProduct(product)
  if not packed then return refuse(what) end
  if isWanted[packed.id] then return refuse('productId') end
  products[i], isWanted[packed.id] = packed, true
end
for _, key in ipairs(wanted.keys) do
  local record, what = packKey(key)
  if not record then return refuse(what) end
  keyRecords['k' .. key.digest16] = record
end
if isStale() then return { 'stale_epoch' } end

local now = clock() + offset
local stored = call('HMGET', KEYS[1], 'v', 'o', 'b', 'r')
local known = tonumber(stored[1] or -1)
if version < known then return { 'older', now } end
if version == known then return { 'same', now } end

-- Whether the shard's history with this product forbids the segment that would be current now.
local function altersHistory(old, new)
  if not old or now < old[3] then return false end
  if now < old[4] then return new[1] ~= old[1] or new[3] ~= old[3] or now >= new[4] end
  -- The old segments ran out: what follows may begin where they ended, and an ended segment stays ended.
  if new[1] == old[1] then return now < new[4] end
  return new[3] < old[4]
end

local states = {}
for i, product in ipairs(products) do
  local state, index = fetchState(product.id), 1
  advance(state, now)
  local segments = product.segments
  while segments[index + 1] and segments[index + 1][3] <= now do index = index + 1 end
  local segment = segments[index]
  if altersHistory(state.segment, segment) then return { 'boundary_passed', now } end
  enter(state, segment, cmsgpack.pack(segment), now)
  state.later = packLater(segments, index)
  state.isNew = true
  states[i] = state
end

-- From here on it must succeed.
local fields = { 'HSET', KEYS[1], 'v', format('%.0f', version) }
for i = 1, #states do stateFields(states[i], fields) end
for name, record in pairs(keyRecords) do
  local count = #fields
  fields[count + 1], fields[count + 2] = name, record
end
local gone = {}
for _, name in ipairs(call('HKEYS', KEYS[1])) do
  if sub(name, 1, 1) == 'k' and not keyRecords[name] then
    gone[#gone + 1] = name
  elseif sub(name, 1, 2) == 'c:' and not isWanted[sub(name, 3)] then
    -- The product has left. Its open holds may still settle, and are counted until they do.
    local state = fetchState(sub(name, 3))
    advance(state, now)
    gone[#gone + 1] = name
    gone[#gone + 1] = 'f:' .. state.product
    if state.numbers[3] > 0 then
      leavePeriod(state, state.segment, state.numbers)
      local count = #fields
      fields[count + 1], fields[count + 2] = 'n:' .. state.product, packDoubles(state.numbers)
      if state.earlier then
        fields[count + 3], fields[count + 4] = 'p:' .. state.product, state.earlier
      end
    else
      gone[#gone + 1] = 'n:' .. state.product
      gone[#gone + 1] = 'p:' .. state.product
    end
  elseif sub(name, 1, 2) == 'n:' and not isWanted[sub(name, 3)] then
    local state = fetchState(sub(name, 3))
    if not state.segment and state.numbers[3] <= 0 then
      gone[#gone + 1] = name
      gone[#gone + 1] = 'p:' .. state.product
    end
  end
end
if offset ~= 0 then
  local count = #fields
  fields[count + 1], fields[count + 2] = 'o', format('%.0f', offset)
else
  gone[#gone + 1] = 'o'
end
call(unpack(fields))
if #gone > 0 then call('HDEL', KEYS[1], unpack(gone)) end
if offset ~= tonumber(stored[2] or 0) then
  local buckets, left = readBuckets(stored[3], stored[4])
  scheduleLapse(buckets, left, offset)
end
return { 'applied', now }
