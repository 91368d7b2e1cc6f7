-- Answers what is newer than a version.
--
--   KEYS  hash
--   ARGV  version
--   →     {newest version, entry …}, of each "<key id> <version of the state> <state>
--         <time that is left (ms)> <level> <disabled> <why>"
local call, format, match, floor = redis.call, string.format, string.match, math.floor

local version = call('HGET', KEYS[1], '~')
if not version then
  return {'0'}
end
if call('PTTL', KEYS[1]) < LIFE / 2 then
  call('PEXPIRE', KEYS[1], LIFE)
end
if version == ARGV[1] then
  return {version}
end

local since = ARGV[1] + 0
if since > version + 0 then
  since = 0
end
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local reply = {version}
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local number, state, ends, rest = match(all[i + 1], '^(%d+) (%d+ %l+) (%d+) (%d+ %d %S+)$')
  if number and number + 0 > since then
    local left = ends - now
    reply[#reply + 1] = format('%s %s %d %s', all[i], state, left > 0 and left or 0, rest)
  end
end
return reply
