-- Ask a worker to write down where its threads and tasks are (renew.lua tells it). What it wrote earlier
-- goes, so that an answer is one to this request.
--
-- KEYS  1 stacks
-- ARGV  1 consumer  2 name of the request  3 how long it counts (ms)  4 how many fields there may be
-- Reply nothing

if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then redis.call('DEL', KEYS[1]) end
redis.call('HDEL', KEYS[1], 'said ' .. ARGV[1])
redis.call('HSET', KEYS[1], 'ask ' .. ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
