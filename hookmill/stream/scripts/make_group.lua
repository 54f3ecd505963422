-- Makes a group in the stream and in its again stream, where it is missing. A part of open.lua and
-- add_group.lua.
--
-- KEYS  1 stream  2 again
-- ARGV  1 group

local function make(key, start, ...)
  local reply = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], start, 'MKSTREAM', ...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'BUSYGROUP', 1, true) then return 0 end
    error(reply.err)
  end
  return 1
end

-- Return whether the group was made in the stream, and in the again stream (1 or 0 each). In the
-- stream it starts after the entry `start`; what follows are more arguments of that command.
local function make_group(start, ...)
  return make(KEYS[1], start, ...), make(KEYS[2], '0')
end
