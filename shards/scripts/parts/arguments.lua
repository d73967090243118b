-- Every argument is hostile: digits only, ids by pattern, lists with a bound, all checked before the first write.
-- KEYS of every script: 1 state, 2 and 3 operations of even and odd generations, 4 epochs, 5 due, 6 facts.
-- ARGV of every script: 1 slot, 2 epoch, 3 subscriber, then its own.
local call = redis.call
local find, floor, format, sub = string.find, math.floor, string.format, string.sub
local MAX = 999999999999999
local METERS_MAX = 16

-- The number that canonical digits spell (0 … 10^15 − 1), nil for any other text.
local function digits(text)
  if text == '0' then return 0 end
  if #text <= 15 and find(text, '^[1-9]%d*$') then return tonumber(text) end
  return nil
end

-- `prefix_` and 22 of [0-9a-z]; the pattern names the prefix.
local function isId(text, pattern, length)
  return #text == length and find(text, pattern) ~= nil
end
local function isSubscriber(text) return isId(text, '^sbr_[0-9a-z]+$', 26) end
local function isProduct(text) return isId(text, '^prod_[0-9a-z]+$', 27) end
local function isSubscription(text) return isId(text, '^sub_[0-9a-z]+$', 26) end
local function isKey(text) return isId(text, '^key_[0-9a-z]+$', 26) end
local function isPeriod(text) return isId(text, '^per_[0-9a-z]+$', 26) end
-- A row's number in Postgres.
local function isRow(text) return #text <= 19 and find(text, '^[1-9]%d*$') ~= nil end
-- The key of a meter.
local function isMeter(text)
  return #text <= 63 and find(text, '^[a-z][a-z0-9_]+$') ~= nil
end
-- The name of a feature or of a credit unit.
local function isName(text) return #text <= 64 and find(text, '^[%w_.%-]+$') ~= nil end

-- An operation's id `<day>-<6…16>-<1…11>`; a slice has `.k` behind it. Gives the operation and the slice.
local function operationOf(text)
  local first, _, maker, sequence, slice =
    find(text, '^%d%d%d%d%d%d%d%d%-([0-9a-z]+)%-([0-9a-z]+)%.?([0-9a-z]*)$')
  if not first or #maker < 6 or #maker > 16 or #sequence > 11 then return nil end
  if slice == '' then
    if sub(text, -1) == '.' then return nil end
    return text, nil
  end
  if #slice > 4 then return nil end
  return sub(text, 1, -2 - #slice), tonumber(slice, 36)
end

local function refuse(argument) return { 'bad_argument', 'argument', argument, 0, 0, 0, 0, 0 } end

-- What is wrong with slot, epoch or subscriber, nil when nothing is. `count`: how many arguments there must be at least.
local function callerFault(count)
  if #ARGV < count or #KEYS ~= 6 then return 'count' end
  local slot = digits(ARGV[1])
  if not slot or slot > 4095 then return 'slot' end
  if not digits(ARGV[2]) then return 'epoch' end
  if not isSubscriber(ARGV[3]) or KEYS[1] ~= '{' .. ARGV[3] .. '}:s' then return 'subscriber' end
  return nil
end

-- The list `n, (meter, quantity) × n` that ends the arguments: flat, with numbers; nil when it is not one.
local function readMeters(at)
  local count = digits(ARGV[at])
  if not count or count > METERS_MAX or #ARGV ~= at + 2 * count then return nil end
  local meters, seen = {}, {}
  for i = at + 1, at + 2 * count, 2 do
    local meter, quantity = ARGV[i], digits(ARGV[i + 1])
    if not quantity or not isMeter(meter) or seen[meter] then return nil end
    seen[meter] = true
    meters[#meters + 1] = meter
    meters[#meters + 1] = quantity
  end
  return meters
end

-- A stale epoch changes nothing: the slot has moved, or this server was never told that it owns it.
local function isStale() return call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] end

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

local function append(fact) return call('XADD', KEYS[6], '*', 'f', fact) end

local function doubles(text)
  local count = #text / 8
  local list = { struct.unpack('<' .. string.rep('d', count), text) }
  list[count + 1] = nil
  return list
end
local function packDoubles(list)
  return struct.pack('<' .. string.rep('d', #list), unpack(list))
end
