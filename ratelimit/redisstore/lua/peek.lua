-- Answers where limits stand.
--
--   KEYS  time, one for each hash or set of the plan
--   ARGV  virtual time, plan …
--   →     {code, now, used 1, reset 1, used 2, …}; code 1, or 4 as of admit
local text = call('GET', KEYS[1])
local told, last, skew, till = tell(KEYS[1], text, ARGV[1])
local windows, leases, now = read(ARGV, 2, KEYS, 2, told)
if text then
  keep(KEYS[1], now, last, skew, till, 0)
end
local o, reply = older(), {1, now}
for i = 1, #windows do
  local w = windows[i]
  if now >= w.ends and not o.roll(w, now) then
    return {4, now}
  end
  reply[1 + 2 * w.index], reply[2 + 2 * w.index] = w.sum, o.reset(w, now)
end
for i = 1, #leases do
  local l = leases[i]
  reply[1 + 2 * l.index], reply[2 + 2 * l.index] = o.leases(l.key, now)
end
return reply
