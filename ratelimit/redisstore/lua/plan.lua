-- A plan tells where an exchange is counted: for each hash "w<n>", n limit ids
-- and n rules "index limit cost shadow step size [periods]"; for each set of
-- leases "c" and a rule "index limit shadow". Indices count the charges from 0.

-- Reads a plan from P[at] on, whose keys are K[k] and those that follow, with
-- the windows as they were when last written. A time before the newest bucket
-- of one of them is taken for that bucket's, so that all count at one time: the
-- third answer.
--
-- The tables have all of their fields from the start, so that none grows.
local function read(P, at, K, k, now)
  local windows, leases, n = {}, {}, 0
  local kind = P[at]
  while kind do
    local key = K[k]
    if kind == 'c' then
      local index, limit, shadow = match(P[at + 1], '^(%d+) (%d+) (%d)$')
      leases[#leases + 1] = {key = key, index = index + 1, limit = limit + 0, shadow = shadow == '1',
        live = 0, last = false}
      at = at + 2
    else
      local count = match(kind, '%d+') + 0
      local hot = call('HMGET', key, unpack(P, at + 1, at + count))
      for i = 1, count do
        local index, limit, cost, shadow, step, size, periods =
          match(P[at + count + i], '^(%d+) (%d+) (%d+) (%d) (%d+) (%d+)(.*)$')
        local sum, head, amount = 0, 0, 0
        if hot[i] then
          sum, head, amount = match(hot[i], '^(%d+),(%d+),(%d+)$')
        end
        step, head = step + 0, head + 0
        local w = {key = key, field = P[at + i], index = index + 1, limit = limit + 0, cost = cost + 0,
          shadow = shadow == '1', step = step, size = size + 0, periods = periods,
          sum = sum + 0, head = head, amount = amount + 0, ends = (head + 1) * step,
          dirty = false, moved = false, cells = false}
        local start = head * (step > 0 and step or 1000000)
        if start > now then
          now = start
        end
        n = n + 1
        windows[n] = w
      end
      at = at + 1 + 2 * count
    end
    k = k + 1
    kind = P[at]
  end
  return windows, leases, now
end
