-- Look at the oldest dead letters: what each is, and how many bytes it has. Reading ends early where
-- they are large, so that one step does not hold up Redis.
--
-- KEYS  1 dead
-- ARGV  1 how many at most  2 bytes after which it ends
-- Reply {now, entries, ended}: Redis' time (Unix ms); for each entry {ID, when it died (as it was
--       written), handler, bytes}; ended is 1 if there are no more entries

--#include weight
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local entries, bytes, first, ended = {}, 0, '-', 0
while #entries < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
  local entry = redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', 1)[1]
  if not entry then
    ended = 1
    break
  end
  local fields, died, handler = entry[2], '', ''
  for i = 1, #fields, 2 do
    if fields[i] == 'died' then died = fields[i + 1] end
    if fields[i] == 'handler' then handler = fields[i + 1] end
  end
  local weight = weight_of(fields)
  entries[#entries + 1] = { entry[1], died, handler, weight }
  bytes = bytes + weight
  first = '(' .. entry[1]
end
return { now_ms, entries, ended }
