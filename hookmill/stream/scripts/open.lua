-- Make a group that is missing (make_group.lua), unless somebody has dropped it.
--
-- A new group starts at the beginning of the stream. One that was lost restarts after its low-water
-- mark, because it has finished all entries up to that. What it has finished since comes again, so its
-- bytes are counted again (recount.lua): the number of its messages need not tell that.
--
-- KEYS  1 stream  2 again  3 low-water mark  4 groups  5 counts
-- ARGV  1 group
-- Reply how many groups were made (0 to 2); -1: it may not be made

local groups_key = KEYS[4]
--#include group_state
--#include make_group

local state = state_of(ARGV[1])
if is_closed(state) then return -1 end
local made, made_again = make_group(redis.call('GET', KEYS[3]) or '0')
if made == 1 then redis.call('HDEL', KEYS[5], 'replay') end -- what it had finished comes again
if made == 1 and redis.call('HEXISTS', KEYS[5], 'unfinished:messages') == 1 then
  redis.call('HSET', KEYS[5], 'recount', '')
end
if state == '' then note(ARGV[1], 'made first') end
return made + made_again
