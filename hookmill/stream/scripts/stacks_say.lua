-- Write down where a worker's threads and tasks are, if that is still asked for.
--
-- KEYS  1 stacks
-- ARGV  1 consumer  2 name of the request  3 the text  4 how long it is kept (ms)
-- Reply nothing

local asked = 'ask ' .. ARGV[1]
if redis.call('HGET', KEYS[1], asked) ~= ARGV[2] then return end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'said ' .. ARGV[1], string.format('%.0f', now_ms) .. ' ' .. ARGV[3])
redis.call('HDEL', KEYS[1], asked)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
