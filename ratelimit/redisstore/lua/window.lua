-- A window is B buckets of a step and the newest one, `head`. Two fields of its
-- scope's hash hold it:
--
--   <limit id>   hot   "sum,head,amount", the amount being that of the head
--   <limit id>~  cold  "a1,a2,…" the amounts of the B older buckets, by age;
--                      it is written when the head moves, or one is refunded,
--                      and means nothing while sum = amount
--
-- A calendar period is a window of its head alone, whose number is when it
-- begins, in seconds. Its rule ends in the boundaries of three periods, of which
-- the clock's is one.

local RULE = '^(%d+) (%d+) (%d+) (%d) (%d+) (%d+) ?(.*)$'

-- Reads a rule and the hot field that goes with it.
local function open(key, field, rule, hot)
  local index, limit, cost, shadow, step, size, periods = match(rule, RULE)
  local w = {key = key, field = field, index = index + 1, limit = limit + 0, cost = cost + 0,
    shadow = shadow == '1', step = step + 0, size = size + 0}
  if hot then
    local sum, head, amount = match(hot, '^(%d+),(%d+),(%d+)$')
    w.sum, w.head, w.amount = sum + 0, head + 0, amount + 0
  else
    w.sum, w.head, w.amount = 0, 0, 0
  end
  if w.step == 0 then
    w.periods = {}
    for start in gmatch(periods, '%d+') do
      w.periods[#w.periods + 1] = start + 0
    end
    w.unit = 1000000
  end
  return w
end

-- The number of the bucket of a time, and when it ends: nothing, where the
-- periods do not reach to it.
local function bucket(w, at)
  if w.step > 0 then
    local number = floor(at / w.step)
    return number, (number + 1) * w.step
  end
  local last = #w.periods
  if at < w.periods[1] * 1000000 or at >= w.periods[last] * 1000000 then
    return
  end
  for i = last - 1, 1, -1 do
    if at >= w.periods[i] * 1000000 then
      return w.periods[i], w.periods[i + 1] * 1000000
    end
  end
end

-- The amounts of the older buckets, by age.
local function cells(w)
  if w.cells then
    return w.cells
  end
  w.cells = {}
  if w.sum ~= w.amount then
    for amount in gmatch((call('HGET', w.key, w.field .. '~') or '') .. ',', '(%d*),') do
      w.cells[#w.cells + 1] = tonumber(amount) or 0
    end
  end
  return w.cells
end

-- Makes the bucket of now the head, and drops those that have left the window.
-- Answers whether now is in a period that is known.
local function roll(w, now)
  local number, ends = bucket(w, now)
  if not number then
    return false
  end
  w.ends = ends
  local passed = number - w.head
  if passed <= 0 then
    return true
  end
  local moved = {}
  if w.sum > 0 and passed <= w.size then
    local old = cells(w)
    for age = 1, passed - 1 do
      moved[age] = 0
    end
    moved[passed] = w.amount
    for age = 1, #old do
      if age + passed <= w.size then
        moved[age + passed] = old[age]
      else
        w.sum = w.sum - old[age]
      end
    end
  else
    w.sum = 0
  end
  w.cells, w.head, w.amount, w.moved = moved, number, 0, true
  return true
end

-- When the bucket of an age leaves the window, from now.
local function leaves(w, now, age)
  return w.ends + (w.size - age) * w.step - now
end

-- How long until the cost fits, given that it does not.
local function wait(w, now)
  local over, c = w.sum + w.cost - w.limit, cells(w)
  for age = #c, 1, -1 do
    over = over - c[age]
    if over <= 0 then
      return leaves(w, now, age)
    end
  end
  return leaves(w, now, 0)
end

-- How long until the window is empty.
local function reset(w, now)
  if w.sum == 0 then
    return 0
  end
  if w.amount > 0 then
    return leaves(w, now, 0)
  end
  local c, age = cells(w), 1
  while c[age] == 0 do
    age = age + 1
  end
  return leaves(w, now, age)
end

local function charge(w, amount)
  amount = min(amount, MAX - w.sum)
  w.sum, w.amount = w.sum + amount, w.amount + amount
  w.dirty = amount > 0
end

-- Takes an amount back from the bucket that was charged, if it still counts.
local function refund(w, number, amount)
  local age = w.head - number
  if age == 0 then
    amount = min(amount, w.amount)
    w.amount = w.amount - amount
  elseif age > 0 and age <= w.size then
    local c = cells(w)
    amount = min(amount, c[age] or 0)
    c[age] = (c[age] or 0) - amount
    w.older = true
  else
    return
  end
  w.sum = w.sum - amount
  w.dirty = amount > 0
end

local function cold(w)
  local c, text = w.cells, {}
  local last = #c
  while last > 0 and c[last] == 0 do
    last = last - 1
  end
  for age = 1, last do
    text[age] = c[age] == 0 and '' or format('%d', c[age])
  end
  return concat(text, ',')
end

-- Writes the windows that have changed, a hash at a time, and has each live
-- until its last bucket has left. Answers for how long that is at most.
local function save(windows, now)
  local at, longest = 1, 0
  while windows[at] do
    local key, args, lasts = windows[at].key, {}, 0
    while windows[at] and windows[at].key == key do
      local w = windows[at]
      if w.dirty then
        args[#args + 1] = w.field
        args[#args + 1] = format('%d,%d,%d', w.sum, w.head, w.amount)
        if (w.moved or w.older) and w.sum ~= w.amount then
          args[#args + 1] = w.field .. '~'
          args[#args + 1] = cold(w)
        end
        if w.moved then
          lasts = max(lasts, leaves(w, now, 0))
        end
      end
      at = at + 1
    end
    if args[1] then
      call('HSET', key, unpack(args))
    end
    if lasts > 0 then
      local ms = floor(lasts / 1000) + SLACK
      if call('PTTL', key) < ms then
        call('PEXPIRE', key, format('%d', ms))
      end
      longest = max(longest, lasts)
    end
  end
  return longest
end
