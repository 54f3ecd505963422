-- Make a group in the stream and in its again stream, if it is missing, and the wake-up group
-- beside it (hookmill/stream/wakeup.py).
--
-- A new group starts at the beginning of the stream. One that was lost restarts after its low-water
-- mark, because it has finished all entries up to that.
--
-- KEYS  1 stream  2 again  3 low-water mark
-- ARGV  1 group  2 wake-up group
-- Reply how many groups were made (0 to 2), wake-up groups not counted

local function make(key, group, start)
  local reply = redis.pcall('XGROUP', 'CREATE', key, group, start, 'MKSTREAM')
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'BUSYGROUP', 1, true) then return 0 end
    return reply
  end
  return 1
end

local groups = {
  { KEYS[1], ARGV[1], redis.call('GET', KEYS[3]) or '0' },
  { KEYS[2], ARGV[1], '0' },
  { KEYS[1], ARGV[2], '$' },
  { KEYS[2], ARGV[2], '$' },
}
local made = 0
for number, group in ipairs(groups) do
  local done = make(unpack(group))
  if type(done) == 'table' then return done end
  if number <= 2 then made = made + done end
end
return made
