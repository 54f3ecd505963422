-- Write a consumer's lease number.
--
-- The first command takes no memory. Without it, a full Redis would refuse this script, and the
-- number would stand still although the worker lives.
--
-- KEYS  1 lease numbers
-- ARGV  1 consumer  2 number
-- Reply nothing

redis.call('DEL', KEYS[1] .. ':none')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
