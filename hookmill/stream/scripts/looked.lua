-- Write what a look has found, for all workers. A look that somebody else has followed up says
-- nothing any more.
--
-- KEYS  1 looks
-- ARGV  1 the number of the look  2 the partitions in which entries may be taken over, with commas
-- Reply nothing

if redis.call('HGET', KEYS[1], 'number') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'found', ARGV[1] .. ' ' .. ARGV[2])
end
