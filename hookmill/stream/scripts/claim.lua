-- Claim a duty for a while: one worker at a time does it for all.
--
-- KEYS  1 claim
-- ARGV  1 for how long (ms)
-- Reply 0 where the caller has it now, else for how many ms another one has it

if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then return 0 end
return math.max(1, redis.call('PTTL', KEYS[1]))
