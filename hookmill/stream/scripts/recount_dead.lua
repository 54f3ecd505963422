-- Count again how many dead letters there are by reason, where the counts are wrong: one step of it.
-- Later steps go on where this one ends. hookmill/stream/dead_reasons.py tells the protocol.
--
-- KEYS  1 dead
-- ARGV  1 how many a step reads at most  2 bytes after which it ends
-- Reply 1 where there is more to count, else 0

local dead_key = KEYS[1]
--#include reason_counts
--#include weight

-- Return whether all was counted: as many as there are, none behind the newest that was counted, and
-- none less than nothing. Programs of an older release count neither what they add nor what they remove.
-- XINFO would tell how many were ever added, but copies the bodies of two dead letters.
local function is_right()
  local kept, sum = redis.call('HGETALL', reasons_key), 0
  for i = 1, #kept, 2 do
    local number = tonumber(kept[i + 1])
    if kept[i] ~= 'newest' then
      if number < 0 then return false end
      sum = sum + number
    end
  end
  if sum ~= redis.call('XLEN', dead_key) then return false end
  local newest = newest_counted()
  if newest == WRONG then return false end
  local later = redis.call('XRANGE', dead_key, '(' .. newest, '+', 'COUNT', 1)
  return #later == 0
end

-- Make what was counted the counts.
local function finish(cursor)
  redis.call('HDEL', dead_recount_key, 'cursor')
  local counted = redis.call('HGETALL', dead_recount_key)
  redis.call('DEL', reasons_key, dead_recount_key)
  redis.call('HSET', reasons_key, 'newest', cursor, unpack(counted))
end

local cursor = redis.call('HGET', dead_recount_key, 'cursor')
if not cursor then
  if is_right() then return 0 end
  redis.call('DEL', dead_recount_key)
  cursor = '0-0'
end

local counted, read, bytes, ended = {}, 0, 0, false
while read < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
  local entry = redis.call('XRANGE', dead_key, '(' .. cursor, '+', 'COUNT', 1)[1]
  if not entry then
    ended = true
    break
  end
  local reason = reason_of(entry[2])
  counted[reason] = (counted[reason] or 0) + 1
  cursor, read, bytes = entry[1], read + 1, bytes + weight_of(entry[2])
end
for reason, number in pairs(counted) do count_reason(dead_recount_key, reason, number) end
if not ended then
  redis.call('HSET', dead_recount_key, 'cursor', cursor)
  return 1
end
finish(cursor)
return 0
