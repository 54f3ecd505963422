-- What a take has to know before it reads, beside what is to be read. A part of take.lua, takeover.lua
-- and direct_read.lua.
--
-- `counts_key` names a hash, of which these fields concern a take:
--   before   the last entry of the stream that was there before the group (backlog.lua)
--   pauses   the version of the group's pauses (held_back.lua)
--   all      is there while all of the group is paused
-- It is one command for all, because each take pays for it.

-- Return 'before' (nil: there is none), the version of the pauses, and whether all is paused.
local function noted_for_takes(counts_key)
  local found = redis.call('HMGET', counts_key, 'before', 'pauses', 'all')
  return found[1] or nil, tonumber(found[2] or 0), found[3] and true or false
end
