-- Renews the receipts and leases of exchanges. A lease that was lost is put back.
--
--   KEYS  time, one receipt for each exchange
--   ARGV  virtual time, one id for each exchange
--   →     {1, now, lost …}, the indices from 0 of those that lost a lease or are
--         unknown
local t = tell(KEYS[1], call('GET', KEYS[1]), ARGV[1])
local now, reply, renewed = t.now, {1, t.now}, false
for i = 2, #KEYS do
  local text = call('GET', KEYS[i])
  local lines, at, keys, ended = receipt(text, now)
  local held = lines or ended
  if lines then
    local life = format('%d', RECEIPT / 1000 + SLACK)
    call('PEXPIRE', KEYS[i], life) -- allowed when memory is full, and so are those that follow
    lines[1] = format('o %d %d %d', now + RECEIPT, at, keys)
    call('SET', KEYS[i], concat(lines, '\n'), 'PX', life)
    renewed = true
    local key, place = 2, 2 + keys
    while lines[place] do
      if lines[place] == 'c' then
        local expires = call('ZSCORE', lines[key], ARGV[i])
        held = held and expires and expires + 0 > now
        call('ZADD', lines[key], format('%d', now + LEASE), ARGV[i])
        call('PEXPIRE', lines[key], format('%d', LEASE / 1000 + SLACK))
        place = place + 2
      else
        place = place + 1 + 2 * match(lines[place], '%d+')
      end
      key = key + 1
    end
  end
  if not held then
    reply[#reply + 1] = i - 2
  end
end
if renewed then
  keep(KEYS[1], t, RECEIPT)
end
return reply
