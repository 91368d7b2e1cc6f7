-- Cancels an exchange: all that it reserved is given back. One that is unknown is
-- remembered as cancelled, so that an admit that was overtaken charges nothing.
--
--   KEYS  receipt, time
--   ARGV  virtual time, id
--   →     as finish answers
local reply, t, ended = finish(ARGV[2], ARGV[1], nil, function()
  return 0
end)
if t and not ended then
  bury(t, 0)
end
return reply
