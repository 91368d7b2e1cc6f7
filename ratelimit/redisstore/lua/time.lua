-- Store time, in µs since the Unix epoch, is that of the server. It never goes
-- backward: a key holds "last,skew,until": the last time told, by how much the
-- server's clock has been set back in all, and until when that must be known. It
-- is written every TICK at most: a clock that is set back by less may go unseen,
-- and then nothing leaves early, but later by that much.

local call, format, match, floor = redis.call, string.format, string.match, math.floor

-- Tells the time, given what the key holds, and those three. A virtual time
-- stands for the server's clock in tests; it is '' otherwise.
local function tell(key, text, virtual)
  local raw
  if virtual == '' then
    local time = call('TIME')
    raw = time[1] * 1000000 + time[2]
  else
    raw = virtual + 0
  end
  if not text then
    return raw, -TICK, 0, 0
  end
  local last, skew, till = match(text, '^(%d+),(%d+),(%d+)$')
  last, skew, till = last + 0, skew + 0, till + 0
  local now = raw + skew
  if now < last then
    now, skew = last, last - raw
    -- If this fails, the next call notices too.
    redis.pcall('SET', key, format('%d,%d,%d', last, skew, till), 'PX', format('%d', (till - last) / 1000 + SLACK))
  end
  return now, last, skew, till
end

-- Remembers the time for as long as something that was written just now counts.
local function keep(key, now, last, skew, till, lasts)
  if now > last + TICK or now + lasts > till then
    if till < now + lasts + TICK then
      till = now + lasts + TICK
    end
    call('SET', key, format('%d,%d,%d', now, skew, till), 'PX', format('%d', (till - now) / 1000 + SLACK))
  end
end
