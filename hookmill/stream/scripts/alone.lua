-- Note that a suspect is about to run alone. Settling it forgets the count.
--
-- KEYS  1 suspects
-- ARGV  1 key number  2 entry ID
-- Reply for which time it does

return redis.call('HINCRBY', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 1)
