-- A window is B buckets of a step and the newest one, `head`. It has these fields
-- in its scope's hash:
--
--   <limit id>    hot   "sum,head,amount", the amount being that of the head
--   <limit id>~1  cold  "a1,…,a6" the amounts of older buckets, by age
--   <limit id>~2  cold  "a7,…,a12" and so on
--
-- The cold ones are written when the head moves, or an older bucket is refunded,
-- and mean nothing while sum = amount. They are so many because a hash is small
-- only as long as none of its values is longer than 64 bytes.
--
-- A calendar period is a window of its head alone, whose number is when it
-- begins, in seconds. Its rule ends in the boundaries of three periods, of which
-- the clock's is one.
--
-- In scripts a window is a table of what its rule and its hot field say, and of
-- when its head ends: a time from then on makes another bucket the head.

local PART = 6 -- amounts of a cold field

-- What a call needs only when a head has moved, a limit is reached or something is
-- given back. It is made then: every call makes the functions of its script anew,
-- and these cost as much as charging a window. So admit does in place what it does
-- for each charge.
local function older()
  local max, min, gmatch = math.max, math.min, string.gmatch
  local o = {}

  -- The number of the bucket of a time, and when it ends: nothing, where the
  -- periods do not reach to it.
  function o.bucket(w, at)
    if w.step > 0 then
      local number = floor(at / w.step)
      return number, (number + 1) * w.step
    end
    local periods = {}
    for start in gmatch(w.periods, '%d+') do
      periods[#periods + 1] = start * 1000000
    end
    for i = 1, #periods - 1 do
      if at >= periods[i] and at < periods[i + 1] then
        return periods[i] / 1000000, periods[i + 1]
      end
    end
  end

  -- The amounts of the older buckets, by age.
  function o.cells(w)
    if w.cells then
      return w.cells
    end
    local cells, fields = {}, {}
    if w.sum ~= w.amount then
      for part = 1, math.ceil(w.size / PART) do
        fields[part] = w.field .. '~' .. part
      end
      for part, text in ipairs(call('HMGET', w.key, unpack(fields))) do
        local age = (part - 1) * PART
        for amount in gmatch((text or '') .. ',', '(%d*),') do
          age = age + 1
          cells[age] = tonumber(amount) or 0
        end
        for rest = age + 1, part * PART do
          cells[rest] = 0
        end
      end
    end
    w.cells = cells
    return cells
  end

  -- Makes the bucket of now the head, and drops those that have left the window.
  -- Answers whether now is in a period that is known.
  function o.roll(w, now)
    local number, ends = o.bucket(w, now)
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
      local old = o.cells(w)
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

  -- How long until the cost fits, given that it does not.
  function o.wait(w, now)
    local over, cells = w.sum + w.cost - w.limit, o.cells(w)
    for age = #cells, 1, -1 do
      over = over - cells[age]
      if over <= 0 then
        return w.ends + (w.size - age) * w.step - now
      end
    end
    return w.ends + w.size * w.step - now
  end

  -- How long until the window is empty.
  function o.reset(w, now)
    if w.amount > 0 then
      return w.ends + w.size * w.step - now
    elseif w.sum == 0 then
      return 0
    end
    local cells, age = o.cells(w), 1
    while cells[age] == 0 do
      age = age + 1
    end
    return w.ends + (w.size - age) * w.step - now
  end

  -- Takes an amount back from the bucket that was charged, if it still counts.
  function o.refund(w, number, amount)
    local age = w.head - number
    if age == 0 then
      amount = min(amount, w.amount)
      w.amount = w.amount - amount
    elseif age > 0 and age <= w.size then
      local cells = o.cells(w)
      amount = min(amount, cells[age] or 0)
      cells[age] = (cells[age] or 0) - amount
      w.moved = true
    else
      return
    end
    w.sum = w.sum - amount
    w.dirty = amount > 0
  end

  -- Appends the cold fields to what is written. Zeros are empty, and left off at
  -- the end.
  function o.cold(w, args)
    local cells = w.cells
    for part = 1, math.ceil(w.size / PART) do
      local text, full = {}, 0
      for i = 1, PART do
        local amount = cells[(part - 1) * PART + i] or 0
        text[i] = amount > 0 and format('%d', amount) or ''
        full = amount > 0 and i or full
      end
      args[#args + 1] = w.field .. '~' .. part
      args[#args + 1] = table.concat(text, ',', 1, full)
    end
  end

  -- Has a hash live until the last bucket of each of the windows in it has left.
  -- Answers how long that is at most.
  function o.live(windows, from, to, now)
    local lasts = 0
    for i = from, to do
      local w = windows[i]
      if w.moved and w.dirty then
        lasts = max(lasts, w.ends + w.size * w.step - now)
      end
    end
    local ms = floor(lasts / 1000) + SLACK
    if lasts > 0 and call('PTTL', windows[from].key) < ms then
      call('PEXPIRE', windows[from].key, format('%d', ms))
    end
    return lasts
  end

  -- Charges the newest bucket.
  function o.charge(w, amount)
    if w.sum + amount > MAX then
      amount = MAX - w.sum
    end
    w.sum, w.amount, w.dirty = w.sum + amount, w.amount + amount, amount > 0
  end

  -- How many leases are live, and how long until the last one expires.
  function o.leases(key, now)
    local n = call('ZCOUNT', key, format('%d', now + 1), '+inf')
    return n, n > 0 and call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] - now or 0
  end

  return o
end

local made

-- Writes those windows that have changed, a hash at a time. Answers how long
-- what has moved will last at most.
local function save(windows, now)
  local at, longest = 1, 0
  while windows[at] do
    local first, key, args, moved = at, windows[at].key, {}, false
    repeat
      local w = windows[at]
      if w.dirty then
        local n = #args
        args[n + 1], args[n + 2] = w.field, format('%d,%d,%d', w.sum, w.head, w.amount)
        if w.moved then
          moved = true
          if w.sum ~= w.amount then
            made.cold(w, args)
          end
        end
      end
      at = at + 1
    until not windows[at] or windows[at].key ~= key
    if args[1] then
      call('HSET', key, unpack(args))
    end
    if moved then
      local lasts = made.live(windows, first, at - 1, now)
      if lasts > longest then
        longest = lasts
      end
    end
  end
  return longest
end
