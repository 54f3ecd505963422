-- Begin to look at what a group has unfinished in this partition, for a replay: take the right to
-- replay, unless another replay that was active lately has it, and have moves noted (moves.lua).
--
-- KEYS  1 stream  2 again  3 counts
-- ARGV  1 group  2 name of this run  3 for how long moves are noted without a further step (s)
--       4 for how long another run has to be silent (ms)
-- Reply {last, length}: the last ID that was delivered to the group, and how many entries the stream
--       has; '' for the ID: another run is active

local again_key = KEYS[2]
--#include by_name
--#include replay_right

local _, other, silent_ms = right_of(KEYS[3])
if other ~= '' and other ~= ARGV[2] and silent_ms < tonumber(ARGV[4]) then return { '', 0 } end
keep_right(KEYS[3], ARGV[2])
local moves_key = again_key .. ':moves'
redis.call('UNLINK', moves_key)
redis.call('HSET', moves_key, '', ARGV[2])
redis.call('EXPIRE', moves_key, ARGV[3])
-- Without a stream nothing was handled, and the default group may not be made yet.
if redis.call('EXISTS', KEYS[1]) == 0 then return { '0-0', 0 } end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = by_name(flat)
  if info['name'] == ARGV[1] then
    return { info['last-delivered-id'], redis.call('XLEN', KEYS[1]) }
  end
end
return redis.error_reply('NOGROUP there is no such group yet: its first worker makes it')
