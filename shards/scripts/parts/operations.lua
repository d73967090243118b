-- Open holds and tombstones share two hashes, one for even and one for odd generations of five minutes; `#` names the
-- generation. A hash goes away two generations on, so nothing stays of an idle subscriber. Generations and the expiry of
-- holds follow the server's own clock, never a test clock.
--
-- A hold is a flat list: 1 state (1 open, 2 expired), 2 segment, 3 at, 4 product, 5 subscription, 6 key, 7 period
-- serial, 8 expiry, 9 overage, 10 unit, 11 last slice, 12 ttl, 13 low threshold, 14 count of meters, then for each meter:
-- name, estimate, micro per unit, held overage, count of counters, (index, id)…, count of takes, (bucket, micro)…
-- A tombstone is a letter and what was charged.
local GENERATION_MS = 300000
local HOLD_TTL_MS_MAX = 240000
local HOLD_HEAD = 14
local ended = { s = 'settled', r = 'released', l = 'late', u = 'recorded' }

local function generationAt(real)
  local generation = floor(real / GENERATION_MS)
  if generation % 2 == 0 then return generation, KEYS[2], KEYS[3] end
  return generation, KEYS[3], KEYS[2]
end

-- `mark` is the hash's `#`. If the clock stepped back, the newer generation is kept and used.
local function writeOperation(key, mark, generation, operation, record)
  local stored = mark and tonumber(mark)
  if stored and stored >= generation then
    call('HSET', key, operation, record)
    return
  end
  if stored then call('UNLINK', key) end
  call('HSET', key, '#', generation, operation, record)
  call('PEXPIREAT', key, (generation + 2) * GENERATION_MS)
end

-- The record and the hash that it lies in.
local function findOperation(operation, generation)
  local first, second = KEYS[2], KEYS[3]
  if generation % 2 == 1 then first, second = second, first end
  local record = call('HGET', first, operation)
  if record then return record, first end
  record = call('HGET', second, operation)
  if record then return record, second end
  return nil, nil
end

local function isTombstone(record) return find(record, '^[a-z]') ~= nil end
