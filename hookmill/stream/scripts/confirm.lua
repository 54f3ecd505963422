-- Note that a reply of takeover.lua has arrived: its entries have been delivered.
--
-- KEYS  1 deliveries
-- ARGV  for each entry: key number, entry ID
-- Reply nothing

for i = 1, #ARGV, 2 do redis.call('HDEL', KEYS[1], ARGV[i] .. ' ' .. ARGV[i + 1]) end
