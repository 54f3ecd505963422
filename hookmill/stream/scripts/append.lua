-- Append the deliveries of one loop tick to the stream: all of them or none.
--
-- KEYS  1 stream
-- ARGV  1 strings in an entry (its fields and values), then the entries, flat
-- Reply the new entries' IDs, in the order given

local width = tonumber(ARGV[1])
local ids = {}
for first = 2, #ARGV, width do
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(ARGV, first, first + width - 1))
end
return ids
