-- Make a group in the stream and in its again stream, if it is missing.
--
-- A new group starts at the beginning of the stream. One that was lost restarts after its low-water
-- mark, because it has finished all entries up to that.
--
-- KEYS  1 stream  2 again  3 low-water mark
-- ARGV  1 group
-- Reply how many groups were made (0 to 2)

local function make(key, start)
  local reply = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], start, 'MKSTREAM')
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'BUSYGROUP', 1, true) then return 0 end
    return reply
  end
  return 1
end

local made = 0
for _, group in ipairs({ { KEYS[1], redis.call('GET', KEYS[3]) or '0' }, { KEYS[2], '0' } }) do
  local done = make(unpack(group))
  if type(done) == 'table' then return done end
  made = made + done
end
return made
