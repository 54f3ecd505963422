-- Make a group that was claimed (claim_group.lua), in one partition; partition 0 comes last. It
-- starts at the beginning of the stream, or after what is there now.
--
-- KEYS  1 stream  2 again  3 low-water mark  4 groups
-- ARGV  1 group  2 'beginning' or 'now'  3 1 in partition 0, else 0
-- Reply 1; 0 where the group was made or dropped by somebody else meanwhile

local groups_key = KEYS[4]
--#include group_state
--#include make_group

local state = state_of(ARGV[1])
if state == 'dropping' or (ARGV[3] == '1' and state ~= 'adding') then return 0 end
local start, added = '0-0', nil
if ARGV[2] == 'now' then
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'last-generated-id' then start = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end -- from Redis 7.0 on
  end
end
-- With the number of entries before it, Redis can tell at once how many the group has not read.
local arguments = added and { start, 'ENTRIESREAD', added } or { start }
-- If the group is lost before the first trim, it starts here once more.
if make_group(unpack(arguments)) > 0 then redis.call('SET', KEYS[3], start) end
note(ARGV[1], 'made ' .. ARGV[2])
return 1
