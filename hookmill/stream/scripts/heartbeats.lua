-- Read the heartbeats of a group's workers. It writes nothing, so that a replica can answer too.
--
-- KEYS  1 heartbeats  2 their times
-- ARGV  none
-- Reply for each heartbeat that has not expired: {consumer, age (ms), its text}

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include heartbeat_left

local times, found = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #times, 2 do
  local left, age = left_of(times[i + 1])
  local text = left > 0 and redis.call('HGET', KEYS[1], times[i])
  if text then found[#found + 1] = { times[i], age, text } end
end
return found
