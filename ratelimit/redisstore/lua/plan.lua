-- A plan tells where an exchange is counted: for each hash "w<n>", n limit ids
-- and n rules "index limit cost shadow step size [periods]"; for each set of
-- leases "c" and a rule "index limit shadow". Indices count the charges from 0.

-- Reads a plan from P[at] on, whose keys are K[k] and those that follow, with
-- the windows as they were when last written. A time before the newest bucket
-- of one of them is taken for that bucket's, so that all count at one time.
local function read(P, at, K, k, t)
  local windows, leases = {}, {}
  while P[at] do
    local key = K[k]
    if P[at] == 'c' then
      local index, limit, shadow = match(P[at + 1], '^(%d+) (%d+) (%d)$')
      leases[#leases + 1] = {key = key, index = index + 1, limit = limit + 0, shadow = shadow == '1'}
      at = at + 2
    else
      local n = match(P[at], '%d+') + 0
      local hot = call('HMGET', key, unpack(P, at + 1, at + n))
      for i = 1, n do
        local w = open(key, P[at + i], P[at + n + i], hot[i])
        t.now = max(t.now, w.head * (w.unit or w.step))
        windows[#windows + 1] = w
      end
      at = at + 1 + 2 * n
    end
    k = k + 1
  end
  return windows, leases
end

-- How many leases are live, and when the last one expires.
local function live(key, now)
  local n = call('ZCOUNT', key, format('%d', now + 1), '+inf')
  local last = n > 0 and call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] - now or 0
  return n, last
end
