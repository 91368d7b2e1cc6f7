-- A receipt is "o <deadline> <at> <keys>" and, each on a line of its own, the
-- keys and the plan of an exchange that is open; or "e <deadline>" of one that
-- has ended. The deadline is in µs; after it there is no receipt, even if the
-- key is still there.

-- Reads a receipt: its lines, when it was charged, and how many keys it has; or
-- whether it has ended; or nothing, if there is none.
local function receipt(text, now)
  if not text then
    return
  end
  local kind, deadline, at, keys = match(text, '^(%l) (%d+) ?(%d*) ?(%d*)')
  if deadline + 0 <= now then
    return
  elseif kind == 'e' then
    return nil, nil, nil, true
  end
  local lines = {}
  for line in string.gmatch(text, '[^\n]+') do
    lines[#lines + 1] = line
  end
  return lines, at + 0, keys + 0
end
