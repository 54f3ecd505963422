-- Make a group's consumer groups where they are missing. A group that was lost restarts behind
-- its low-water mark (all that it finished lies at or below it); a new one starts at the
-- beginning of the stream. Beside each stands its bell, a group that acknowledges as it reads:
-- a worker that waits reads from it, so an entry wakes one worker and is not taken by that.
--
-- KEYS  1 stream  2 again  3 low-water mark
-- ARGV  1 group  2 the bell's name
-- Reply how many were made, the bells not counted

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
