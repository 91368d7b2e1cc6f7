-- Reads what an event stream tells of its usage while it passes by, so that no chunk of
-- it has to leave Envoy, and tells weir before the client sees the end of it. What is
-- noted is text of lines, each a name, a space and a value:
--
--   begun     when its first bytes came, in ms since 1970
--   usage     an event that holds nothing but usage, of the whole answer or of a choice,
--             in the order in which they came
--   finished, done, failed   what the stream said of its end
--   passed    how many pieces of text came by now, of how many bytes in JSON, where in the
--             stream they end, and where they began, in bytes
--   ended     the same in its place, once the stream has ended
--
-- For an answer that breaks off the notes stand in dynamic metadata, which the access
-- log carries; "metering", which weir has set to native, is settled once weir has.
--
-- The events are split as https://html.spec.whatwg.org/multipage/server-sent-events.html
-- has it. The reading is by patterns: in JSON text a quote inside of a string always
-- follows a backslash, so a name between bare quotes is a member's. weir's own reader
-- has the last word on the numbers.

-- Between two chunks of a stream other work takes the processor's caches, so what counts is how
-- little is touched for each: compiled code is larger than what it was made from, and the
-- collector goes through all that is alive. It waits for four times as much, not for twice.
if jit then
  jit.off()
  collectgarbage("setpause", 400)
end

local find, byte = string.find, string.byte

local max_event = 1048576
local max_usage = 4096 -- of one object, in bytes: more than any server needs
local max_objects = 256 -- of usage in one event that are looked at

-- Where a member's name in its quotes begins, from there on. The opening quote is not
-- searched for: every name has one, so most would be stops on the way.
local function member(text, name, from)
  local at = text:find(name, from + 1, true)
  while at and text:byte(at - 1) ~= 34 do
    at = text:find(name, at + 1, true)
  end
  return at and at - 1
end

-- Whether a member of that name has a value that begins so.
local function has(text, name, value)
  local at = member(text, name, 1)
  while at do
    at = at + 1 + #name
    if text:find(value, at) then
      return true
    end
    at = member(text, name, at - 1)
  end
  return false
end

-- Where the event ends that begins at i; nil if it does not. A blank line ends it: one
-- end of a line, LF, CRLF or CR, right after another.
local function event_end(text, i)
  local at = text:find("[\r\n][\r\n]", i)
  while at do
    local first, second = text:byte(at, at + 1)
    if second == 13 and text:byte(at + 2) == 10 then
      return at + 2
    elseif first == 10 or second == 13 then
      return at + 1
    end
    at = text:find("[\r\n][\r\n]", at + 1)
  end
end

local function has_usage(text) return has(text, 'usage"', "^%s*:%s*{") end
local function has_error(text) return has(text, 'error"', "^%s*:%s*[^n%s]") end
local function has_finish(text) return has(text, 'finish_reason"', '^%s*:%s*"[^"]') end
local function has_done(text) return text:find("[DONE]", 1, true) end

-- The members of events that hold what the model said.
local said = { 'content"', 'text"', 'reasoning_content"', 'reasoning"', 'refusal"', 'arguments"' }

-- How many pieces of text there are in whole events, of how many bytes, and where the
-- first is and where the last ends.
local function text_in(events)
  local pieces, bytes, where, stops = 0, 0, nil, nil
  for i = 1, #said do
    local at = member(events, said[i], 1)
    while at do
      at = at + 1 + #said[i]
      local first = events:match('^[ \t]*:[ \t]*"()', at)
      local stop = first
      while first do
        stop = find(events, '["\\\r\n]', stop)
        if not stop then
          break
        end
        local char, escaped = byte(events, stop, stop + 1)
        if char == 34 then
          break
        elseif char ~= 92 or escaped == 10 or escaped == 13 then
          stop = nil -- the string does not end in its event
          break
        end
        stop = stop + 2
      end
      if stop and stop > first then
        pieces, bytes = pieces + 1, bytes + stop - first
        where, stops = math.min(where or first, first), math.max(stops or stop, stop)
      end
      at = member(events, said[i], stop or at - 1)
    end
  end
  return pieces, bytes, where, stops
end

-- Where in whole events the one begins that holds the byte there.
local function event_of(events, where)
  local begin = 1
  local before = events:sub(1, where)
  for _, blank in ipairs({ "\n\r?\n()", "\r\r()" }) do
    for after in before:gmatch(blank) do
      begin = math.max(begin, after)
    end
  end
  return begin
end

-- Returns three functions that read a stream: write takes its next bytes and returns what to pass
-- on in their place, and whether the stream has said that it is done; count notes the pieces of
-- text; finish returns what is left at the end. If strip is set, events without choices that tell
-- usage are taken out, for a client that did not ask for them.
--
-- Most events are like the last one but for a single piece of text, and those the caller reads by
-- itself. So it keeps how many bytes of the stream were seen, and how many pieces of text of how
-- many bytes there were: it gives them to each function. write returns them anew, and then how
-- many pieces are to be noted next, and what stands before and after the text of the last event.
-- There is that only while nothing is held, skipped or awaited, and the stream goes on: where
-- nothing else is new, nothing has to be searched for.
local function reader(note, strip, cut)
  local held = ""       -- the unfinished event; with strip not yet passed on
  local skipping = nil  -- the last bytes of an event that is too long to read
  local after_cr = nil  -- the last event ended in CR, and a LF may follow: pass it on?
  local seen = 0
  local pieces, text, began = 0, 0, 0
  local due = 1 -- how many pieces are noted next

  local head, tail = nil, nil -- what stands before and after the text of the last event

  -- Notes the pieces of text in events that end after so many bytes of the stream. That is
  -- done now and then: what comes after the last note is told by its bytes.
  local function pass(stop)
    due = pieces + math.min(64, pieces)
    note("passed", pieces .. " " .. text .. " " .. stop .. " " .. began)
  end

  -- Counts the text of whole events.
  local function add(events, stop)
    local more, bytes, where, stops = text_in(events)
    head = nil
    if more > 0 then
      if pieces == 0 then
        began = stop - #events + event_of(events, where) - 1
      end
      pieces, text = pieces + more, text + bytes
      if pieces >= due then
        pass(stop)
      end
      if more == 1 and events:sub(-2) == "\n\n" and events:find("^[},]", stops + 1) then
        head, tail = events:sub(1, where - 1), events:sub(stops)
      end
    end
  end

  local finished, done, failed = false, false, false
  local over = 0 -- where the stream said that it is done

  -- Reads an event and tells whether it is one to take out.
  local function read(event, stop)
    if has_done(event) and ("\n" .. event):find("[\r\n\191]data:[ \t]*%[DONE%][ \t]*[\r\n]*$") then
      done, over = true, stop
      note("done", "")
      return false
    end
    if #event > max_event then
      return false
    end
    add(event, stop)
    local empty = has(event, 'choices"', "^%s*:%s*%[%s*%]")
    local choices = not empty and has(event, 'choices"', "^%s*:%s*%[")
    local fails = not choices and has_error(event)
    if fails and not failed then
      failed = true
      note("failed", "")
    end
    if not finished and has_finish(event) then
      finished = true
      note("finished", (event:match('"finish_reason"%s*:%s*"([%w_]*)"') or ""):sub(1, 32))
    end
    if not has_usage(event) then
      return false
    end
    head = nil -- it may be one to take out, and so may the next
    local key, of = "whole", "[]"
    if choices then
      local index = tonumber((event:match('"index"%s*:%s*(%d+)') or "0"):sub(1, 9))
      key, of = index % 128, '[{"index":' .. index .. "}]"
    end
    local at = event:find('"usage"', 1, true)
    for _ = 1, max_objects do
      if not at then
        break
      end
      local usage = event:sub(at, at + max_usage):match('^"usage"%s*:%s*(%b{})')
      if usage then
        usage = usage:gsub("[\128-\255%c]", " ")
        note("usage", '{"choices":' .. of .. ',"usage":' .. usage .. "}", key)
      end
      at = event:find('"usage"', at + 1, true)
    end
    return empty and not fails
  end

  -- Reads the events that are complete in held and data.
  local function split(data)
    local text = held .. data
    local out, start, from = {}, 1, math.max(1, #held - 2) -- held has no end of an event
    while true do
      local stop = event_end(text, from)
      if not stop then
        break
      end
      local event = text:sub(start, stop)
      local bare = read(event, seen - #held + stop)
      if not (bare and strip) then
        out[#out + 1] = event
      end
      if stop == #text and text:byte(stop) == 13 then
        after_cr = not (bare and strip)
      end
      start = stop + 1
      from = start
    end
    held = text:sub(start)
    if #held > max_event then
      out[#out + 1] = held
      skipping = held:sub(-3)
      held = ""
    end
    return table.concat(out)
  end

  -- Reads the next bytes of any stream.
  local function scan(data)
    if done then -- nothing more is said
      seen = seen + #data
      return data, true
    end
    local lead = ""
    if after_cr ~= nil and data ~= "" then
      if data:byte(1) == 10 then
        lead = after_cr and "\n" or ""
        data = data:sub(2)
        seen = seen + 1
      end
      after_cr = nil
    end
    if skipping then
      local text = skipping .. data
      local stop = event_end(text, 1)
      if not stop then
        seen = seen + #data
        skipping = text:sub(-3)
        return lead .. data, false
      end
      lead = lead .. text:sub(#skipping + 1, stop)
      data = text:sub(stop + 1)
      seen = seen + stop - #skipping
      skipping = nil
    end
    local out = data
    if held ~= "" or data:sub(-2) ~= "\n\n" or has_usage(data) or has_finish(data) or has_done(data) or has_error(data) then
      local kept = split(data)
      if strip then
        out = kept
      end
    else
      add(data, seen + #data)
    end
    seen = seen + #data
    if done then
      if strip then
        out, held = out .. held, ""
      end
      note("ended", pieces .. " " .. text .. " " .. over .. " " .. began, "passed")
    end
    if done or skipping or held ~= "" or after_cr ~= nil then
      head = nil
    end
    return lead == "" and out or lead .. out, done
  end

  local function write(data, ...)
    seen, pieces, text = ...
    local out, ended = scan(data)
    return out, ended, seen, pieces, text, due, head, tail
  end

  local function count(...)
    seen, pieces, text = ...
    pass(seen)
    return due
  end

  local function finish(...)
    seen, pieces, text = ...
    local rest = held
    held = ""
    if rest ~= "" then
      read(rest, seen)
    end
    if not strip then
      rest = ""
    end
    if not (finished or done or failed) then
      note("failed", "")
      rest = rest .. cut
    end
    note("ended", pieces .. " " .. text .. " " .. seen .. " " .. began, "passed")
    return rest
  end

  return write, count, finish
end

-- Returns a function that notes a value; of each key the last one counts. The notes are
-- in the order in which they came.
local function notebook(keep)
  local keys, lines = {}, {}
  local before, last = "", nil -- what stands before the last one
  return function(name, value, key)
    key = key or name
    local line = name .. " " .. value .. "\n"
    if key ~= last then
      if lines[key] then
        for i = 1, #keys do
          if keys[i] == key then
            table.remove(keys, i)
            break
          end
        end
      end
      local text = {}
      for i = 1, #keys do
        text[i] = lines[keys[i]]
      end
      before, last = table.concat(text), key
      keys[#keys + 1] = key
    end
    lines[key] = line
    keep(before .. line)
  end
end

function envoy_on_response(handle)
  local plan = handle:streamInfo():dynamicMetadata():get("weir") or {}
  if not plan["answer"] then
    return
  end
  local headers = handle:headers()
  local kind = (headers:get("content-type") or ""):lower()
  local encoding = headers:get("content-encoding") or ""
  if not (kind:find("^%s*text/event%-stream%s*$") or kind:find("^%s*text/event%-stream%s*;")) or
      not (encoding == "" or encoding == "identity") or headers:get(":status"):sub(1, 1) ~= "2" then
    return
  end
  local notes = ""
  local note = notebook(function(text)
    notes = text
    handle:streamInfo():dynamicMetadata():set("weir.answer", "notes", text)
  end)
  local told = false
  -- While weir is told, Envoy holds the answer. If there is no weir it goes on.
  local function tell()
    told = true
    local answer = handle:httpCall("CLUSTER", {
      [":method"] = "POST", [":path"] = "/answers/" .. plan["exchange"], [":authority"] = "weir",
    }, notes, 1000)
    if answer[":status"] == "204" then
      local metadata = handle:streamInfo():dynamicMetadata()
      metadata:set("weir", "metering", "settled")
      for _, name in ipairs({ "input_tokens", "output_tokens" }) do -- for the access log
        local tokens = tonumber(answer["x-weir-" .. name:gsub("_", "-")])
        if tokens then
          metadata:set("weir", name, tokens)
        end
      end
    end
  end
  local write, count, finish = reader(note, plan["answer"] == "strip", CUT)
  -- What is touched for each chunk stands on this function's own stack: a variable of another
  -- function, a method to look up and a call are each memory of their own.
  local find, byte = string.find, string.byte
  local length_of, bytes_of
  local seen, pieces, text, due = 0, 0, 0, 1
  local head, tail, from, more -- from is where the text begins after head, more is what tail adds
  local last, out, done
  local begun = false
  for chunk in handle:bodyChunks() do
    if not length_of then
      length_of, bytes_of = chunk.length, chunk.getBytes
    end
    local length = length_of(chunk)
    local data = length > 0 and bytes_of(chunk, 0, length) or ""
    if not begun and length > 0 then
      begun = true
      note("begun", tostring(handle:timestamp()))
    end
    last = chunk
    local stop = head and find(data, head, 1, true) == 1 and find(data, '["%c]', from)
    -- tail begins with the quote that ends the text.
    if stop and stop > from and stop + more == length and byte(data, stop - 1) ~= 92 and find(data, tail, stop, true) then
      seen, pieces, text = seen + length, pieces + 1, text + stop - from
      out = data
      if pieces >= due then
        due = count(seen, pieces, text)
      end
    else
      out, done, seen, pieces, text, due, head, tail = write(data, seen, pieces, text)
      if head then
        from, more = #head + 1, #tail - 1
      end
      if out ~= data then
        chunk:setBytes(out)
      end
      if done and not told then
        tell()
      end
    end
  end
  if told then
    return
  end
  local rest = finish(seen, pieces, text)
  if rest ~= "" and last then
    -- The last chunk is at hand unless trailers came.
    pcall(function() last:setBytes(out .. rest) end)
  end
  tell()
end
