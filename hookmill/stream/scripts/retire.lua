-- Remove consumers that hold nothing and were silent for a while. The check and the removal are one
-- step, so that no consumer takes an entry in between.
--
-- KEYS  1 stream  2 again
-- ARGV  1 group  2 idle for at least (ms)  3 the one consumer to remove ('': all)
-- Reply {removed, left}: how many were removed, where one that is in both streams counts twice, and
--       the names of those that are still there

--#include by_name
local removed, left = 0, {}
for _, key in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1])
  for _, info in ipairs(consumers.err and {} or consumers) do
    local consumer = by_name(info)
    local asked = ARGV[3] == '' or ARGV[3] == consumer['name']
    if asked and consumer['pending'] == 0 and consumer['idle'] >= tonumber(ARGV[2]) then
      redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], consumer['name'])
      removed = removed + 1
    else
      left[#left + 1] = consumer['name']
    end
  end
end
return { removed, left }
