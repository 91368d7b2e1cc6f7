-- Cancels an exchange: all that it reserved is given back. One that is unknown is
-- remembered as cancelled, so that an admit that was overtaken charges nothing.
--
--   KEYS  receipt, time
--   ARGV  virtual time, id
--   →     as finish answers
return finish(ARGV[1], ARGV[2], nil, function()
  return 0
end, true)
