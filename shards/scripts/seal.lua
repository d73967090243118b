-- seal(slot, epoch, subscriber, product, period): says in the stream that no usage of this period can follow, but as
-- `late`. Repeated, it says so again.
-- → sealed, stream_id | open_holds, n, last_expiry_ms | not_over, now_ms | stale_epoch
local fault = callerFault(5)
if fault then return refuse(fault) end
local product, period = ARGV[4], ARGV[5]
if #ARGV ~= 5 then return refuse('count') end
if not isProduct(product) then return refuse('product') end
if not isPeriod(period) then return refuse('period') end
if isStale() then return { 'stale_epoch' } end

local offset = call('HGET', KEYS[1], 'o')
local now = clock() + (offset and tonumber(offset) or 0)
local state = fetchState(product)
advance(state, now)
local segment = state.segment
if segment and segment[2] == period and now < segment[4] then return { 'not_over', now } end
if state.later then
  for _, text in ipairs(cmsgpack.unpack(state.later)) do
    if cmsgpack.unpack(text)[2] == period then return { 'not_over', now } end
  end
end

local open, last = 0, 0
if segment and segment[2] == period then open, last = state.numbers[4], state.numbers[5] end
local earlier = state.earlier and cmsgpack.unpack(state.earlier) or {}
for i = 1, #earlier, 4 do
  if earlier[i + 1] == period then
    open = open + earlier[i + 2]
    if earlier[i + 3] > last then last = earlier[i + 3] end
  end
end

-- The boundary is kept even when holds are open: a clock that steps back must not lead behind it.
if state.isNew then call(unpack(stateFields(state, { 'HSET', KEYS[1] }))) end
if open > 0 then return { 'open_holds', open, last } end
return { 'sealed', append(format('s|%s|%s|%.0f', ARGV[3], period, now)) }
