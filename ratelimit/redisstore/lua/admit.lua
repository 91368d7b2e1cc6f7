-- Admits an exchange: all of its charges are made, or none.
--
--   KEYS  receipt, time, one for each hash or set of the plan
--   ARGV  virtual time, not after (µs, '' for never), force (0, 1), id, plan …
--   →     {code, now, refused, retry after, used 1, reset 1, used 2, …, shadowed …}
--
-- Times in µs, indices from 0. Codes: 1 admitted, 0 refused, 2 too large, 3 too
-- late, 4 the clocks of client and server are too far apart for the periods.

local got = call('MGET', KEYS[1], KEYS[2])
local t = tell(KEYS[2], got[2], ARGV[1])
local windows, leases = read(ARGV, 5, KEYS, 3, t)
local now = t.now

local known = got[1] and match(got[1], '^%l (%d+)') + 0 > now
if not known and ARGV[2] ~= '' and now > ARGV[2] + 0 then
  return {3, now}
end
local decide = not known and ARGV[3] == '0'

local refused, longest, code, shadowed = 0, 0, 1, {}
local function refuse(index, shadow, pause)
  if shadow then
    shadowed[#shadowed + 1] = index
  elseif pause == 0 then
    if code ~= 2 or index < refused then
      refused, longest, code = index, 0, 2
    end
  elseif code ~= 2 and (pause > longest or pause == longest and index < refused) then
    refused, longest, code = index, pause, 0
  end
end

local function pause(key, excess)
  local next = call('ZRANGEBYSCORE', key, format('%d', now + 1), '+inf', 'WITHSCORES', 'LIMIT', excess, 1)
  return next[2] - now
end

for i = 1, #windows do
  local w = windows[i]
  if not roll(w, now) then
    return {4, now}
  end
  if not decide then
  elseif w.cost > w.limit then
    refuse(w.index, w.shadow, 0)
  elseif w.cost > w.limit - w.sum then
    refuse(w.index, w.shadow, wait(w, now))
  end
end
for i = 1, #leases do
  local l = leases[i]
  l.live = call('ZCOUNT', l.key, format('%d', now + 1), '+inf')
  if decide and l.live >= l.limit then
    refuse(l.index, l.shadow, pause(l.key, l.live - l.limit))
  end
end

local granted = code == 1 and not known
if granted then
  call('SET', KEYS[1], format('o %d %d %d\n', now + RECEIPT, now, #KEYS - 2) .. concat(KEYS, '\n', 3) .. '\n'
    .. concat(ARGV, '\n', 5), 'PX', format('%d', RECEIPT / 1000 + SLACK))
  for i = 1, #windows do
    charge(windows[i], windows[i].cost)
  end
  local lasts = save(windows, now)
  for i = 1, #leases do
    local l = leases[i]
    if floor(now / 1000) % 16 == 0 then
      call('ZREMRANGEBYSCORE', l.key, '-inf', format('%d', now))
    end
    call('ZADD', l.key, format('%d', now + LEASE), ARGV[4])
    call('PEXPIRE', l.key, format('%d', LEASE / 1000 + SLACK))
    l.live, l.last = l.live + 1, LEASE
  end
  keep(KEYS[2], t, max(lasts, RECEIPT))
end

local reply = {code, now, refused - 1, longest}
for i = 1, #windows do
  local w = windows[i]
  reply[3 + 2 * w.index], reply[4 + 2 * w.index] = w.sum, reset(w, now)
end
for i = 1, #leases do
  local l = leases[i]
  reply[3 + 2 * l.index], reply[4 + 2 * l.index] = l.live, l.last or select(2, live(l.key, now))
end
local last = 4 + 2 * (#windows + #leases)
for i = 1, #shadowed do
  reply[last + i] = shadowed[i] - 1
end
return reply
