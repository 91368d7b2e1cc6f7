-- Settles an exchange by what it really cost.
--
--   KEYS  receipt, time
--   ARGV  virtual time, id, then '' for an unknown truth, or how many and the amounts in
--         the order of the charges; those of leases are ignored
--   →     as finish answers
if ARGV[3] == '' then
  return (finish(ARGV[2], ARGV[1], nil, function() end))
end
return (finish(ARGV[2], ARGV[1], ARGV[3] + 0, function(index)
  return ARGV[3 + index] + 0
end))
