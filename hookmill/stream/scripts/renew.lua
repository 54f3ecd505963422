-- Renew the leases of entries that a consumer holds, where they are still its own.
--
-- KEYS  1 stream  2 again
-- ARGV  1 group  2 consumer, then for each entry: key number, entry ID
-- Reply the positions (1 for the first) of the entries that are no longer its own

local group, consumer = ARGV[1], ARGV[2]
local lost = {}
for i = 3, #ARGV, 2 do
  local key, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  if #redis.call('XPENDING', key, group, id, id, 1, consumer) == 1 then
    redis.call('XCLAIM', key, group, consumer, 0, id, 'JUSTID')
  else
    lost[#lost + 1] = (i - 1) / 2
  end
end
return lost
