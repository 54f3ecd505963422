-- Pause a part of a group's work, or change when its pause ends.
--
-- KEYS  1 paused  2 counts  3 due  4 sooner
-- ARGV  1 the pause's name  2 until when (Unix ms by Redis' clock; 0: until it is resumed)  3 JSON: what
--       is shown of it  4 how many pauses there may be
-- Reply 1; 0 where there are too many

local paused_key, counts_key, due_key, sooner_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include pauses_due

local field, number = 'pause ' .. ARGV[1], 0
for _, name in ipairs(redis.call('HKEYS', paused_key)) do
  if name ~= field and string.sub(name, 1, 6) == 'pause ' then number = number + 1 end
end
if number >= tonumber(ARGV[4]) then return 0 end

redis.call('HSET', paused_key, field, 'on ' .. ARGV[2] .. ' ' .. ARGV[3])
if ARGV[1] == 'all' then redis.call('HSET', counts_key, 'all', '1') end
change_version()
note_pauses_due(now_ms)
return 1
