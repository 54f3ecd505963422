-- Claim for a while what one of many is to do, unless another has.
--
-- KEYS  1 claim
-- ARGV  1 for how long (ms)
-- Reply 0 where it is the caller's now, else for how many ms it is another's

if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then return 0 end
return math.max(1, redis.call('PTTL', KEYS[1]))
