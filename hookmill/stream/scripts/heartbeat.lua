-- Write a worker's heartbeat, and remove the heartbeats that have expired. The keys expire with the
-- last of them.
--
-- The times lie in a hash of their own, so that the texts of other workers, which are long, are not
-- read here.
--
-- KEYS  1 heartbeats  2 their times
-- ARGV  1 consumer  2 the heartbeat counts for (ms)  3 its text
-- Reply nothing

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include heartbeat_left

redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now_ms) .. ' ' .. ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local times, longest = redis.call('HGETALL', KEYS[2]), 0
for i = 1, #times, 2 do
  local left = left_of(times[i + 1])
  if left > 0 then
    longest = math.max(longest, left)
  else
    redis.call('HDEL', KEYS[1], times[i])
    redis.call('HDEL', KEYS[2], times[i])
  end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, longest) end
