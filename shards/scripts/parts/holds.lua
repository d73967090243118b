-- Holding a request's estimates: every quota of every level, then credits. All of it happens in memory; the caller writes
-- it, or, after a refusal, forgets it.

local function quantityOf(meters, meter)
  for i = 1, #meters, 2 do
    if meters[i] == meter then return meters[i + 1] end
  end
  return nil
end

local function quotaRefusal(segment, numbers, meters, now, offset)
  local limits, at = segment[14], numbers[6]
  for i = 1, #limits, LIMIT do
    renewWindow(segment, numbers, i, at, now)
    local quantity = quantityOf(meters, limits[i + 2])
    if quantity and limits[i + 4] == 1 then
      local limit, used, held = limits[i + 3], numbers[at + 2], numbers[at + 3]
      if used + held + quantity > limit then
        -- What others hold may come back before the window ends.
        local retryable = held > 0 and used + quantity <= limit
        return {
          'limit_exceeded', levels[limits[i + 1]], limits[i], limit, used, held,
          numbers[at + 1] - offset, retryable and 1 or 0,
        }
      end
    end
    at = at + COUNTER
  end
  return nil
end

local function creditRefusal(buckets, stored, unit, need, now)
  local free, held = balance(buckets, stored and doubles(stored) or { 0 }, unit, now)
  local code = 'request_exceeds_balance'
  if free + held == 0 then
    code = 'credit_exhausted'
  elseif held > 0 and free + held >= need then
    code = 'credits_in_flight'
  end
  return {
    code, 'subscriber', unit, free + held, need, held, 0, code == 'credits_in_flight' and 1 or 0,
  }
end

-- The greatest cost that any number of meters may have, checked before anything is taken.
local function costsOf(segment, meters)
  local burn, costs, total = segment[11], {}, 0
  for m = 1, #meters, 2 do
    local rate = 0
    for i = 1, #burn, 2 do
      if burn[i] == meters[m] then rate = burn[i + 1] end
    end
    local cost = meters[m + 1] * rate
    total = total + cost
    if total > MAX then return nil, nil end
    costs[m], costs[m + 1] = rate, cost
  end
  return costs, total
end

-- Adds the meters' part to the hold. Gives a refusal or nil, what is held, and what is admitted as overage.
-- from: { segment, numbers, buckets, left, stored (the packed remainders), now, offset }.
local function holdMeters(hold, meters, from)
  local segment, numbers = from.segment, from.numbers
  local refusal = quotaRefusal(segment, numbers, meters, from.now, from.offset)
  if refusal then return refusal, 0, 0 end
  local unit, limits = segment[9], segment[14]
  local costs, total
  if unit ~= '' then
    costs, total = costsOf(segment, meters)
    if not costs then return refuse('cost'), 0, 0 end
  end
  local held, overage, n = 0, 0, #hold
  for m = 1, #meters, 2 do
    local meter, estimate = meters[m], meters[m + 1]
    hold[n + 1], hold[n + 2], hold[n + 3], hold[n + 4], hold[n + 5] = meter, estimate, 0, 0, 0
    local head, at = n, numbers[6]
    n = n + 5
    for i = 1, #limits, LIMIT do
      if limits[i + 2] == meter then
        numbers[at + 3] = add(numbers[at + 3], estimate)
        hold[head + 5] = hold[head + 5] + 1
        hold[n + 1], hold[n + 2] = at, numbers[at]
        n = n + 2
      end
      at = at + COUNTER
    end
    local takes = {}
    if costs and costs[m] > 0 then
      hold[head + 3] = costs[m]
      local short = take(from.buckets, from.left, costs[m + 1], {
        unit = unit, now = from.now, meter = meter, share = 1, takes = takes,
      })
      if short > 0 then
        -- Overage on: hold what there is, admit the rest.
        if segment[6] == 0 then
          return creditRefusal(from.buckets, from.stored, unit, total, from.now), 0, 0
        end
        hold[head + 4] = short
        overage = overage + short
      end
      held = held + costs[m + 1] - short
    end
    n = n + 1
    hold[n] = #takes / 2
    for i = 1, #takes do hold[n + i] = takes[i] end
    n = n + #takes
  end
  return nil, held, overage
end
