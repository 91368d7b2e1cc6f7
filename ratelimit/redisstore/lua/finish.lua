-- Leaves a tombstone: whoever admits the exchange again charges nothing.
local function bury(t, lasts)
  call('SET', KEYS[1], format('e %d', t.now + TOMBSTONE), 'PX', format('%d', TOMBSTONE / 1000 + SLACK))
  keep(KEYS[2], t, max(lasts, TOMBSTONE))
end

-- Ends an exchange that is open. For each charge, actual tells what it really cost, given its
-- index from 1 and what was reserved; it answers nothing to let that stand.
--
--   →  {code, now}   1 ended, 0 unknown or ended before, 5 wrong number of amounts
--
-- The first command that writes is one that Redis allows when its memory is
-- full; then it allows the others, which is how slots come free and receipts end.
local function finish(id, virtual, amounts, actual)
  local got = call('MGET', KEYS[1], KEYS[2])
  local t = tell(KEYS[2], got[2], virtual)
  local lines, at, keys, ended = receipt(got[1], t.now)
  if not lines then
    return {0, t.now}, t, ended
  end
  local windows, leases = read(lines, 2 + keys, lines, 2, t)
  local now = t.now
  if amounts and amounts ~= #windows + #leases then
    return {5, now}
  end
  for i = 1, #windows do
    local w = windows[i]
    local delta = (actual(w.index) or w.cost) - w.cost
    if delta ~= 0 then
      local number, known = bucket(w, at), roll(w, now)
      if delta < 0 then
        refund(w, number, -delta)
      elseif known or w.head > 0 then
        -- It may outlive the periods that its plan knows. What it cost beyond
        -- then counts in the newest one that the hash knows, if there is any.
        charge(w, delta)
      end
    end
  end

  call('PEXPIRE', KEYS[1], format('%d', TOMBSTONE / 1000 + SLACK))
  for i = 1, #leases do
    call('ZREM', leases[i].key, id)
  end
  bury(t, save(windows, now))
  return {1, now}
end
