-- Note that a suspect is about to run alone. settle.lua deletes the count.
--
-- Each intended run has a token. Where it is noted already, its reply was lost and this is the same
-- run, so it does not count again.
--
-- KEYS  1 suspects  2 deliveries
-- ARGV  1 key number  2 entry ID  3 token of the run
-- Reply how often it has run alone, this time included

local entry = ARGV[1] .. ' ' .. ARGV[2]
if redis.call('HGET', KEYS[2], entry .. ' run') == ARGV[3] then
  return tonumber(redis.call('HGET', KEYS[1], entry) or 1)
end
redis.call('HSET', KEYS[2], entry .. ' run', ARGV[3])
return redis.call('HINCRBY', KEYS[1], entry, 1)
