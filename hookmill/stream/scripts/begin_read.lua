-- Begin to read new entries without a script: the first step of a transaction. The second one is
-- XREADGROUP from the gate and the stream, the last one end_read.lua, which decides about what was
-- read. hookmill/stream/direct_reads.py sends all three.
--
-- The gate is an empty stream. XREADGROUP gives nothing where one of its streams has not the group, so
-- it gives nothing unless this script has opened the gate. It does so only where no entry can be
-- larger than the caller believes: the caller has chosen a count for its budget of bytes.
--
-- KEYS  1 stream  2 gate  3 counts  4 backlog
-- ARGV  1 group  2 how many bytes an entry may have  3 the name of this read
-- Reply 1 where the gate is open, else 0

--#include by_name

local group = ARGV[1]
-- A read that was not ended leaves the gate open.
redis.call('DEL', KEYS[2])
local largest = tonumber(redis.call('HGET', KEYS[4], 'largest') or '')
if not largest or largest > tonumber(ARGV[2]) then return 0 end
-- Entries that were there before the group are counted when take.lua takes them (finished.lua).
if redis.call('HEXISTS', KEYS[3], 'before') == 1 then return 0 end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = by_name(flat)
  if info['name'] == group then
    redis.call('HSET', KEYS[3], 'read', table.concat({ ARGV[3], info['last-delivered-id'],
      info['pending'] }, ' '))
    redis.call('XGROUP', 'CREATE', KEYS[2], group, '0', 'MKSTREAM')
    return 1
  end
end
return 0
