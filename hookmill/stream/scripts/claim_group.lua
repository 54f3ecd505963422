-- Begin to add a group, in partition 0. The claim makes workers wait for the end of it, and lets
-- somebody else finish what was begun in the same way.
--
-- KEYS  1 stream  2 groups
-- ARGV  1 group  2 'beginning' or 'now'
-- Reply '': go on; else the note that forbids it, 'made' for a group of release 0.1

local groups_key = KEYS[2]
--#include group_state

local state, noted = state_of(ARGV[1]), redis.call('HGET', groups_key, ARGV[1])
if not noted then
  local infos = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  for _, info in ipairs(infos.err and {} or infos) do
    if info[2] == ARGV[1] then return 'made' end -- its name; info[1] is the word 'name'
  end
elseif state ~= 'dropped' and noted ~= 'adding ' .. ARGV[2] then
  return noted
end
redis.call('HSET', groups_key, ARGV[1], 'adding ' .. ARGV[2])
return ''
