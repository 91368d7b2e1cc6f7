-- Leaves a tombstone: whoever admits the exchange again charges nothing.
local function bury(now, last, skew, till, lasts)
  call('SET', KEYS[1], format('e %d', now + TOMBSTONE), 'PX', TOMBSTONE_MS)
  keep(KEYS[2], now, last, skew, till, lasts > TOMBSTONE and lasts or TOMBSTONE)
end

-- Ends an exchange that is open. For each charge, actual tells what it really
-- cost, given its index from 1; it answers nothing to let the reservation stand.
-- One that is unknown is remembered as ended if that is wanted.
--
--   →  {code, now}   1 ended, 0 unknown or ended before, 5 wrong number of amounts
--
-- The first command that writes is one that Redis allows when its memory is
-- full; then it allows the others, which is how slots come free and receipts end.
local function finish(virtual, id, amounts, actual, remember)
  local got = call('MGET', KEYS[1], KEYS[2])
  local told, last, skew, till = tell(KEYS[2], got[2], virtual)
  local lines, at, keys, ended = receipt(got[1], told)
  if not lines then
    if remember and not ended then
      bury(told, last, skew, till, 0)
    end
    return {0, told}
  end
  local windows, leases, now = read(lines, 2 + keys, lines, 2, told)
  if amounts and amounts ~= #windows + #leases then
    return {5, now}
  end
  for i = 1, #windows do
    local w = windows[i]
    local delta = (actual(w.index) or w.cost) - w.cost
    if delta ~= 0 then
      made = made or older()
      local known = now < w.ends or made.roll(w, now)
      if delta < 0 then
        made.refund(w, (made.bucket(w, at)), -delta)
      elseif known or w.head > 0 then
        -- It may outlive the periods that its plan knows. What it cost beyond
        -- then counts in the newest one that the hash knows, if there is any.
        made.charge(w, delta)
      end
    end
  end

  call('PEXPIRE', KEYS[1], TOMBSTONE_MS)
  for i = 1, #leases do
    call('ZREM', leases[i].key, id)
  end
  bury(now, last, skew, till, save(windows, now))
  return {1, now}
end
