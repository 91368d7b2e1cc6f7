-- Settles an exchange by what it really cost.
--
--   KEYS  receipt, time
--   ARGV  virtual time, id, then '' for an unknown truth, or how many amounts and
--         these, in the order of the charges; those of leases are ignored
--   →     as finish answers
return finish(ARGV[1], ARGV[2], tonumber(ARGV[3]), function(index)
  return tonumber(ARGV[3 + index])
end)
