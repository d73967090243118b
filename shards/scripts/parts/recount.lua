-- The held amounts as the surviving holds account for them, for the one case in which a record went away before its
-- hold had ended (the sweeper stood still for minutes).

local function survivingHolds()
  local holds = {}
  for _, key in ipairs({ KEYS[2], KEYS[3] }) do
    for _, record in ipairs(call('HVALS', key)) do
      if find(record, '^[^a-z0-9]') then
        local hold = cmsgpack.unpack(record)
        if hold[1] == 1 then holds[#holds + 1] = hold end
      end
    end
  end
  return holds
end

-- Walks one hold: `onCounter(index, id, estimate)`, `onTake(bucket, micro)`.
local function walk(hold, onCounter, onTake)
  local cursor = HOLD_HEAD + 1
  for _ = 1, hold[HOLD_HEAD] do
    local estimate, counters = hold[cursor + 1], hold[cursor + 4]
    cursor = cursor + 5
    for i = cursor, cursor + 2 * counters - 1, 2 do onCounter(hold[i], hold[i + 1], estimate) end
    cursor = cursor + 2 * counters
    local takes = hold[cursor]
    for i = cursor + 1, cursor + 2 * takes - 1, 2 do onTake(hold[i], hold[i + 1]) end
    cursor = cursor + 1 + 2 * takes
  end
end

-- Puts right the buckets in memory; gives the products' states, put right too.
local function recount(buckets, left, now, facts)
  local holds, heldOf = survivingHolds(), {}
  for i = 1, #holds do
    walk(holds[i], function() end, function(bucket, micro)
      heldOf[bucket] = (heldOf[bucket] or 0) + micro
    end)
  end
  local at = 2
  for i = 1, #buckets, BUCKET do
    local surplus = left[at + 1] - (heldOf[buckets[i]] or 0)
    if surplus > 0 then giveBack(buckets, left, buckets[i], surplus, now, facts) end
    at = at + 2
  end
  local states = {}
  for _, field in ipairs(call('HKEYS', KEYS[1])) do
    if sub(field, 1, 2) == 'n:' then
      local product = sub(field, 3)
      local state = fetchState(product)
      local numbers = state.numbers
      for place = numbers[6], #numbers, COUNTER do numbers[place + 3] = 0 end
      local earlier = state.earlier and cmsgpack.unpack(state.earlier) or {}
      for i = 1, #earlier, 4 do earlier[i + 2] = 0 end
      numbers[3], numbers[4] = 0, 0
      for i = 1, #holds do
        if holds[i][4] == product then
          numbers[3] = numbers[3] + 1
          if holds[i][7] == numbers[2] then numbers[4] = numbers[4] + 1 end
          for j = 1, #earlier, 4 do
            if earlier[j] == holds[i][7] then earlier[j + 2] = earlier[j + 2] + 1 end
          end
          walk(holds[i], function(index, id, estimate)
            local where = counterAt(numbers, index, id)
            if where then numbers[where + 3] = numbers[where + 3] + estimate end
          end, function() end)
        end
      end
      if #earlier > 0 then call('HSET', KEYS[1], 'p:' .. product, cmsgpack.pack(earlier)) end
      states[#states + 1] = state
    end
  end
  return states
end
