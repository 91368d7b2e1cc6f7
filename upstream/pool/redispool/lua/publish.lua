-- Makes an entry known.
--
--   KEYS  hash
--   ARGV  key id, state, why, time that is left (ms), level, disabled (0, 1),
--         version of the state that the publisher knows, publish the state (0, 1),
--         publish disabled (0, 1)
--   →     version; 0 if the state that is known is worse and newer, and stays
local call, format, match, floor = redis.call, string.format, string.match, math.floor
local FORM = '^%d+ (%d+) (%l+) (%d+) (%d+) (%d) (%S+)$'
local rank = {healthy = 0, cooling = 1, quarantined = 2}

local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local got = call('HMGET', KEYS[1], '~', ARGV[1])
local version = (got[1] or BORN - time[1] * 1000000 - time[2]) + 1

local state, why, ends, level, disabled = 'healthy', '-', 0, 0, '0'
local known = 0 -- the version of the state
if got[2] and match(got[2], FORM) then -- one of another form is none
  known, state, ends, level, disabled, why = match(got[2], FORM)
  known, ends, level = known + 0, ends + 0, level + 0
  if state == 'cooling' and ends <= now and ARGV[8] == '1' then
    state = 'healthy' -- on trial: whoever knows more is right
  end
end

local kept = false
if ARGV[8] == '1' then
  local theirs = ARGV[2] == 'cooling' and now + ARGV[4] or 0
  kept = known > ARGV[7] + 0 and
    ((rank[state] or 0) > rank[ARGV[2]] or state == 'cooling' and ARGV[2] == state and ends > theirs)
  if not kept then
    known, state, why, ends, level = version, ARGV[2], ARGV[3], theirs, ARGV[5] + 0
  end
end
if ARGV[9] == '1' then
  disabled = ARGV[6]
end
if not kept or ARGV[9] == '1' then
  local text = format('%d %d %s %d %d %s %s', version, known, state, ends, level, disabled, why)
  call('HSET', KEYS[1], '~', format('%d', version), ARGV[1], text)
  call('PEXPIRE', KEYS[1], LIFE)
end
return kept and 0 or version
