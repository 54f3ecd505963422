-- Raise a consumer's lease number, and renew the leases of entries that it holds, where they are
-- still its own.
--
-- The number says that the consumer still holds what it holds (silence.lua). The idle times are
-- renewed for workers of release 0.1, which go by them.
--
-- The first command takes no memory. Without it, a full Redis would refuse this script, and the
-- number would stand still although the worker lives.
--
-- KEYS  1 stream  2 again  3 lease numbers  4 stacks (only where they lie)
-- ARGV  1 group  2 consumer  3 number, then for each entry: key number, entry ID
-- Reply the positions (1 for the first) of the entries that are no longer its own; then, where an
--       operator asks for its stacks, the name of the request

local group, consumer = ARGV[1], ARGV[2]
redis.call('DEL', KEYS[3] .. ':none')
redis.call('HSET', KEYS[3], consumer, ARGV[3])
local lost = {}
for i = 4, #ARGV, 2 do
  local key, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  if #redis.call('XPENDING', key, group, id, id, 1, consumer) == 1 then
    redis.call('XCLAIM', key, group, consumer, 0, id, 'JUSTID')
  else
    lost[#lost + 1] = i / 2 - 1
  end
end
local asked = KEYS[4] and redis.call('HGET', KEYS[4], 'ask ' .. consumer)
if asked then lost[#lost + 1] = asked end
return lost
