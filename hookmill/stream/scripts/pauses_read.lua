-- Read the pauses of one partition.
--
-- KEYS  1 paused  2 counts
-- ARGV  (none)
-- Reply {version, time, names and values in turn}: the version of the pauses, Redis' time (Unix ms), and
--       the hash of pauses (held_back.lua)

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local version = tonumber(redis.call('HGET', KEYS[2], 'pauses') or 0)
return { version, now_ms, redis.call('HGETALL', KEYS[1]) }
