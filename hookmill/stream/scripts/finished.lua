-- Notes how many messages and bytes a group has finished. A part of settle.lua, replay.lua, and of
-- take.lua and takeover.lua (by taking.lua).
--
-- backlog.lua adds what was appended since it last looked, and subtracts what is noted here. What
-- takes the place of a finished entry is noted as less than nothing: an entry for a retry, one for
-- each handler, a dead letter that is replayed. A script that calls these ends with keep_finished().
-- Needs: `counts_key`, set before the include.

local finished_messages, finished_bytes = 0, 0

local function note_finished(messages, bytes)
  finished_messages = finished_messages + messages
  finished_bytes = finished_bytes + bytes
end

local function keep_finished()
  if finished_messages ~= 0 then
    redis.call('HINCRBY', counts_key, 'finished:messages', finished_messages)
  end
  if finished_bytes ~= 0 then redis.call('HINCRBY', counts_key, 'finished:bytes', finished_bytes) end
end

-- Return a function that tells of an entry of the stream whether it was there before the group, whose
-- last such entry is `before`. They are no backlog until they are taken (backlog.lua); mostly there are
-- none, and `before` is nil.
local function older_entries(before)
  if not before then return function() return false end end
  local before_ms, before_seq = string.match(before, '^(%d+)-(%d+)$')
  before_ms, before_seq = tonumber(before_ms), tonumber(before_seq)
  return function(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    ms = tonumber(ms)
    return ms < before_ms or (ms == before_ms and tonumber(seq) <= before_seq)
  end
end
