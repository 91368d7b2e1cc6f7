-- Store time, in µs since the Unix epoch, is that of the server. It never goes
-- backward: a key holds "last,skew,until": the last time told, by how much the
-- server's clock has been set back in all, and until when that must be known. It
-- is written every TICK at most: a clock that is set back by less may go unseen,
-- and then nothing leaves early, but later by that much.

local call, format, match, floor = redis.call, string.format, string.match, math.floor
local max, min, concat, gmatch = math.max, math.min, table.concat, string.gmatch

local function note(t)
  return format('%d,%d,%d', t.now, t.skew, t.till), format('%d', (t.till - t.now) / 1000 + SLACK)
end

-- Tells the time, given what the key holds. A virtual time stands for the
-- server's clock in tests; it is '' otherwise.
local function tell(key, text, virtual)
  local raw = tonumber(virtual)
  if not raw then
    local time = call('TIME')
    raw = time[1] * 1000000 + time[2]
  end
  if not text then
    return {now = raw, last = -TICK, skew = 0, till = 0}
  end
  local last, skew, till = match(text, '^(%d+),(%d+),(%d+)$')
  local t = {now = raw + skew, last = last + 0, skew = skew + 0, till = till + 0}
  if t.now < t.last then
    t.skew, t.now = t.last - raw, t.last
    local value, life = note(t)
    redis.pcall('SET', key, value, 'PX', life) -- or the next call notices
  end
  return t
end

-- Remembers the time for as long as something that was written just now counts.
local function keep(key, t, lasts)
  local need = t.now + lasts
  if t.now > t.last + TICK or need > t.till then
    t.till = max(t.till, need + TICK)
    local value, life = note(t)
    call('SET', key, value, 'PX', life)
  end
end
