-- Admits an exchange: all of its charges are made, or none.
--
--   KEYS  receipt, time, one for each hash or set of the plan
--   ARGV  virtual time, not after (µs, '' for never), force (0, 1), id, plan …
--   →     {code, now, refused, retry after, used 1, reset 1, used 2, …, shadowed …}
--
-- Times in µs, indices from 0. Codes: 1 admitted, 0 refused, 2 too large, 3 too
-- late, 4 the clocks of client and server are too far apart for the periods.

local got = call('MGET', KEYS[1], KEYS[2])
local told, last, skew, till = tell(KEYS[2], got[2], ARGV[1])
local windows, leases, now = read(ARGV, 5, KEYS, 3, told)

local known = got[1] and match(got[1], '^%l (%d+)') + 0 > now
if not known and ARGV[2] ~= '' and now > ARGV[2] + 0 then
  return {3, now}
end
local decide = not known and ARGV[3] == '0'

local misfits -- what does not fit, and for how long; 0 is never
for i = 1, #windows do
  local w = windows[i]
  if now >= w.ends then
    made = made or older()
    if not made.roll(w, now) then
      return {4, now}
    end
  end
  if decide and w.cost > w.limit - w.sum then
    made = made or older()
    misfits = misfits or {}
    misfits[#misfits + 1] = {w, w.cost > w.limit and 0 or made.wait(w, now)}
  end
end
local after = leases[1] and format('%d', now + 1)
for i = 1, #leases do
  local l = leases[i]
  l.live = call('ZCOUNT', l.key, after, '+inf')
  if decide and l.live >= l.limit then
    local next = call('ZRANGEBYSCORE', l.key, after, '+inf', 'WITHSCORES', 'LIMIT', l.live - l.limit, 1)
    misfits = misfits or {}
    misfits[#misfits + 1] = {l, next[2] - now}
  end
end

local code, refused, longest, shadowed = 1, 0, 0, nil
if misfits then
  for i = 1, #misfits do
    local m, pause = misfits[i][1], misfits[i][2]
    local index = m.index
    if m.shadow then
      shadowed = shadowed or {}
      shadowed[#shadowed + 1] = index - 1
    elseif pause == 0 then
      if code ~= 2 or index < refused then
        code, refused, longest = 2, index, 0
      end
    elseif code ~= 2 and (pause > longest or pause == longest and index < refused) then
      code, refused, longest = 0, index, pause
    end
  end
end

if code == 1 and not known then
  call('SET', KEYS[1], format('o %d %d %d\n', now + RECEIPT, now, #KEYS - 2) .. table.concat(KEYS, '\n', 3) .. '\n'
    .. table.concat(ARGV, '\n', 5), 'PX', RECEIPT_MS)
  for i = 1, #windows do
    local w = windows[i]
    local cost = w.sum + w.cost > MAX and MAX - w.sum or w.cost
    w.sum, w.amount, w.dirty = w.sum + cost, w.amount + cost, cost > 0
  end
  local lasts = save(windows, now)
  local expires = leases[1] and format('%d', now + LEASE)
  for i = 1, #leases do
    local l = leases[i]
    call('ZADD', l.key, expires, ARGV[4])
    call('PEXPIRE', l.key, LEASE_MS)
    l.live, l.last = l.live + 1, LEASE
    if floor(now / 1000) % 16 == 0 then
      call('ZREMRANGEBYSCORE', l.key, '-inf', format('%d', now))
    end
  end
  keep(KEYS[2], now, last, skew, till, lasts > RECEIPT and lasts or RECEIPT)
end

local reply = {code, now, refused - 1, longest}
for i = 1, #windows do
  local w = windows[i]
  local at = 3 + 2 * w.index
  reply[at] = w.sum
  if w.amount > 0 then
    reply[at + 1] = w.ends + w.size * w.step - now
  else
    made = made or older()
    reply[at + 1] = made.reset(w, now)
  end
end
for i = 1, #leases do
  local l = leases[i]
  local at = 3 + 2 * l.index
  if l.last then
    reply[at], reply[at + 1] = l.live, l.last
  else
    made = made or older()
    reply[at], reply[at + 1] = made.leases(l.key, now)
  end
end
if shadowed then
  local at = 4 + 2 * (#windows + #leases)
  for i = 1, #shadowed do
    reply[at + i] = shadowed[i]
  end
end
return reply
