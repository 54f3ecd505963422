-- Drop a group in one partition: note that it is dropped, and destroy it in both streams. From then
-- on no script writes anything for it there. Its keys go later (hookmill/stream/groups.py).
--
-- KEYS  1 stream  2 again  3 heartbeats  4 their times  5 groups
-- ARGV  1 group  2 the group by which release 0.1 woke its workers
-- Reply {consumers, time}: the consumers whose heartbeat lives (then nothing is done), and Redis'
--       time (Unix ms). Heartbeats lie in partition 0 only, so that partition comes first

local groups_key = KEYS[5]
--#include group_state
--#include heartbeat_left

local times, alive = redis.call('HGETALL', KEYS[4]), {}
for i = 1, #times, 2 do
  if left_of(times[i + 1]) > 0 then alive[#alive + 1] = times[i] end
end
local now_text = string.format('%.0f', now_ms)
if #alive > 0 then return { alive, now_text } end

note(ARGV[1], 'dropping')
for which = 1, 2 do
  for _, group in ipairs({ ARGV[1], ARGV[2] }) do
    redis.pcall('XGROUP', 'DESTROY', KEYS[which], group) -- an error: there is no such stream
  end
end
return { alive, now_text }
