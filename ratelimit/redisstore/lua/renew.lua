-- Renews the receipts and leases of exchanges. A lease that was lost is put back.
--
--   KEYS  time, one receipt for each exchange
--   ARGV  virtual time, one id for each exchange
--   →     {1, now, lost …}, the indices from 0 of those that lost a lease or are
--         unknown
local concat = table.concat
local now, last, skew, till = tell(KEYS[1], call('GET', KEYS[1]), ARGV[1])
local expires, deadline = format('%d', now + LEASE), now + RECEIPT
local reply, renewed = {1, now}, false
for i = 2, #KEYS do
  local text = call('GET', KEYS[i])
  local lines, at, keys, ended = receipt(text, now)
  local held = lines or ended
  if lines then
    call('PEXPIRE', KEYS[i], RECEIPT_MS) -- as in finish
    lines[1] = format('o %d %d %d', deadline, at, keys)
    call('SET', KEYS[i], concat(lines, '\n'), 'PX', RECEIPT_MS)
    renewed = true
    local key, place = 2, 2 + keys
    while lines[place] do
      if lines[place] == 'c' then
        local score = call('ZSCORE', lines[key], ARGV[i])
        held = held and score and score + 0 > now
        call('ZADD', lines[key], expires, ARGV[i])
        call('PEXPIRE', lines[key], LEASE_MS)
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
  keep(KEYS[1], now, last, skew, till, RECEIPT)
end
return reply
