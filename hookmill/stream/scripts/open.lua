-- Make a group's consumer groups where they are missing. A group that was lost restarts behind
-- its low-water mark (all that it finished lies at or below it); a new one starts at the
-- beginning of the stream.
--
-- KEYS  1 stream  2 again  3 low-water mark
-- ARGV  1 group
-- Reply how many were made

local function make(key, start)
  local reply = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], start, 'MKSTREAM')
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'BUSYGROUP', 1, true) then return 0 end
    return reply
  end
  return 1
end

local stream = make(KEYS[1], redis.call('GET', KEYS[3]) or '0')
if type(stream) == 'table' then return stream end
local again = make(KEYS[2], '0')
if type(again) == 'table' then return again end
return stream + again
