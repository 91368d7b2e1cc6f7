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

local code, refused, longest, shadowed = 1, 0, 0, nil

-- Notes that a charge does not fit for so long, or never, if that is 0.
local function refuse(index, shadow, pause)
  if shadow then
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

for i = 1, #windows do
  local w = windows[i]
  if not roll(w, now) then
    return {4, now}
  end
  if decide and w.cost > w.limit - w.sum then
    made = made or older()
    refuse(w.index, w.shadow, w.cost > w.limit and 0 or made.wait(w, now))
  end
end
local after = leases[1] and format('%d', now + 1)
for i = 1, #leases do
  local l = leases[i]
  l.live = call('ZCOUNT', l.key, after, '+inf')
  if decide and l.live >= l.limit then
    local next = call('ZRANGEBYSCORE', l.key, after, '+inf', 'WITHSCORES', 'LIMIT', l.live - l.limit, 1)
    refuse(l.index, l.shadow, next[2] - now)
  end
end

if code == 1 and not known then
  call('SET', KEYS[1], format('o %d %d %d\n', now + RECEIPT, now, #KEYS - 2) .. table.concat(KEYS, '\n', 3) .. '\n'
    .. table.concat(ARGV, '\n', 5), 'PX', RECEIPT_MS)
  for i = 1, #windows do
    charge(windows[i], windows[i].cost)
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
  reply[at], reply[at + 1] = w.sum, reset(w, now)
end
for i = 1, #leases do
  local l = leases[i]
  local at = 3 + 2 * l.index
  if l.last then
    reply[at], reply[at + 1] = l.live, l.last
  else
    reply[at], reply[at + 1] = live(l.key, now)
  end
end
if shadowed then
  local at = 4 + 2 * (#windows + #leases)
  for i = 1, #shadowed do
    reply[at + i] = shadowed[i]
  end
end
return reply
