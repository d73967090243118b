-- authorize(slot, epoch, subscriber, op, digest, product, feature, ttl_ms, n, (meter, estimate) × n)
-- Refuses in this order, and only then writes: all levels or none.
-- → ok, version, subscription, segment, key, at_ms, generation, held, overage, available,
--   (window, limit, left, reset_ms)… | code, level, name, limit, used, held, reset_ms, retryable | stale_epoch | stream_full

-- 1. bad_argument
local fault = callerFault(9)
if fault then return refuse(fault) end
local op, digest, product, feature = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local operation, slice = operationOf(op)
if not operation or slice then return refuse('op') end
if #digest ~= 22 or not find(digest, '^[%w_%-]+$') then return refuse('digest') end
if not isProduct(product) then return refuse('product') end
if feature ~= '' and not isName(feature) then return refuse('feature') end
local ttl = digits(ARGV[8])
if not ttl or ttl < 1 or ttl > HOLD_TTL_MS_MAX then return refuse('ttl_ms') end
local meters = readMeters(9)
if not meters then return refuse('meters') end

-- 2. stale_epoch, and the shard as a whole: with so many facts waiting for Postgres it admits nothing
local FACTS_MAX = 2000000
if isStale() then return { 'stale_epoch' } end
if call('XLEN', KEYS[6]) > FACTS_MAX then return { 'stream_full' } end

-- 3. invalid_credential, key_expired
local got = call('HMGET', KEYS[1], 'k' .. digest, 'c:' .. product, 'n:' .. product, 'b', 'r', 'v', 'o')
local real = clock()
local offset = got[7] and tonumber(got[7]) or 0
local now = real + offset
local function refused(code, level, name, resetMs, retryable)
  return { code, level, name, 0, 0, 0, resetMs, retryable }
end
if not got[1] then return refused('invalid_credential', 'key', 'digest', 0, 0) end
local _, _, key, expires, products = find(got[1], '^([^|]+)|(%d+)|(.*)$')
if expires ~= '0' and now >= tonumber(expires) then
  return refused('key_expired', 'key', key, 0, 0)
end
if products ~= '' and not find(products, product, 1, true) then
  return refused('invalid_credential', 'key', 'product', 0, 0)
end

-- 4. duplicate
local generation, current, other = generationAt(real)
local known = call('HMGET', current, op, '#')
if known[1] or call('HEXISTS', other, op) == 1 then
  return refused('duplicate_request', 'operation', op, 0, 0)
end

-- 5. constraints_expired; the first call past a boundary moves to the next segment
if not got[2] then return refused('subscription_inactive', 'subscription', product, 0, 0) end
local state = readState(product, got[2], got[3], nil, nil)
if now >= state.segment[4] then
  local more = call('HMGET', KEYS[1], 'f:' .. product, 'p:' .. product)
  state.later, state.earlier = more[1], more[2]
  advance(state, now)
  if now >= state.segment[4] then
    return refused('constraints_expired', 'subscription', product, 0, 1)
  end
end
local segment, numbers = state.segment, state.numbers

-- 6. status. A segment that begins a little later than now is a clock that stepped back, not a later start.
if now < segment[3] then
  if segment[3] - now > 5000 then
    return refused('subscription_inactive', 'subscription', product, segment[3] - offset, 0)
  end
  now = segment[3]
end
if segment[5] == 1 then return refused('payment_overdue', 'subscription', product, 0, 0) end
if segment[5] == 2 then return refused('subscription_inactive', 'subscription', product, 0, 0) end

-- 7. feature
if feature ~= '' and not find(segment[8], ',' .. feature .. ',', 1, true) then
  return refused('feature_not_enabled', 'subscription', feature, 0, 0)
end

-- 8. rate: GCRA, kept as a level that leaks, which is the same rule and loses no precision at high rates
local rates, at = segment[12], NUMBERS_HEAD + 1
for i = 1, #rates, 3 do
  local limit, window, last, level = rates[i + 1], rates[i + 2], numbers[at], numbers[at + 1]
  local elapsed = now - last
  if elapsed > 0 then
    level = level - elapsed * limit / window
    if level < 0 then level = 0 end
    last = now
  elseif elapsed < -window then
    last = now
  end
  if level + 1 > limit + 0.000001 then
    local reset = limit > 0 and now - offset + math.ceil((level + 1 - limit) * window / limit) or 0
    return {
      'rate_limited', 'subscription', rates[i], limit, math.ceil(level - 0.000001), 0, reset, 1,
    }
  end
  numbers[at], numbers[at + 1] = last, level + 1
  at = at + 2
end

-- 9. concurrency
local concurrency = segment[13]
for i = 1, #concurrency, 2 do
  if numbers[3] >= concurrency[i + 1] then
    return {
      'concurrency_exceeded', 'subscription', concurrency[i], concurrency[i + 1], 0, numbers[3], 0, 1,
    }
  end
end

-- 10. quota, 11. (the place of the spend cap), 12. credits
local unit, buckets, left = segment[9], nil, nil
if unit ~= '' then buckets, left = readBuckets(got[4], got[5]) end
local hold = {
  1, segment[1], now, product, segment[7], key, numbers[2], real + ttl, segment[6], unit, 0, ttl,
  segment[10], #meters / 2,
}
local refusal, held, overage = holdMeters(hold, meters, {
  segment = segment, numbers = numbers, buckets = buckets, left = left, stored = got[5],
  now = now, offset = offset,
})
if refusal then return refusal end

-- From here on it must succeed.
local available, facts = false, {}
countHold(state, numbers[2], 1, real + ttl)
local fields = stateFields(state, { 'HSET', KEYS[1] })
if unit ~= '' then
  lapse(buckets, left, now, facts)
  available = balance(buckets, left, unit, now)
  local count = #fields
  fields[count + 1], fields[count + 2] = 'r', packDoubles(left)
end
call(unpack(fields))
writeOperation(current, known[2], generation, op, cmsgpack.pack(hold))
call('ZADD', KEYS[5], real + ttl, ARGV[3] .. '|' .. op)
for i = 1, #facts do append(facts[i]) end

local reply = {
  'ok', tonumber(got[6] or 0), segment[7], segment[1], key, now, generation, held, overage, available,
}
local n = 10
at = NUMBERS_HEAD + 1
for i = 1, #rates, 3 do
  local limit, level = rates[i + 1], numbers[at + 1]
  reply[n + 1], reply[n + 2], reply[n + 3] = rates[i], limit, floor(limit - level + 0.000001)
  reply[n + 4] = now - offset + math.ceil(level * rates[i + 2] / limit)
  n, at = n + 4, at + 2
end
local limits = segment[14]
at = numbers[6]
for i = 1, #limits, LIMIT do
  local rest = limits[i + 3] - numbers[at + 2] - numbers[at + 3]
  reply[n + 1], reply[n + 2], reply[n + 3] = limits[i], limits[i + 3], rest > 0 and rest or 0
  reply[n + 4] = numbers[at + 1] - offset
  n, at = n + 4, at + COUNTER
end
return reply
