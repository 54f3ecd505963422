-- Add what a program has counted to the history of rates, at the time that it is now.
--
-- KEYS  1 rates: what the names of its hashes begin with; they have the same hash tag
-- ARGV  for the minutes, then for the longer steps: 1, 4 name, 2, 5 seconds of a step,
--       3, 6 steps for which a hash is kept; then fields and numbers in turn
-- Reply how many hashes were written

local seconds = tonumber(redis.call('TIME')[1])
for i = 1, 4, 3 do
  local step, kept = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local key = string.format('%s:%s:%.0f', KEYS[1], ARGV[i], math.floor(seconds / step))
  for j = 7, #ARGV, 2 do
    redis.call('HINCRBY', key, ARGV[j], ARGV[j + 1])
  end
  redis.call('PEXPIRE', key, string.format('%.0f', 1000 * step * kept))
end
return 2
