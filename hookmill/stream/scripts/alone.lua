-- Note that a suspect is about to run alone. settle.lua deletes the count.
--
-- KEYS  1 suspects
-- ARGV  1 key number  2 entry ID
-- Reply how often it has run alone, this time included

return redis.call('HINCRBY', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 1)
