-- Count the unfinished messages once more, and keep the counts for the appends.
--
-- KEYS  1 stream  2 backlog
-- ARGV  the parts of the names of a group's keys, as names_of() in group_names.lua takes them
-- Reply {messages, bytes, recount}: how many messages are unfinished, how many bytes they have, and 1
--       where the bytes of a group have to be counted again (recount.lua)

--#include backlog

local messages, bytes = measure(KEYS[1], KEYS[2], unpack(ARGV))
local recount = 0
for _, group in ipairs(groups_of(KEYS[1])) do
  local counts = names_of(group['name'], unpack(ARGV)).counts
  if redis.call('HEXISTS', counts, 'recount') == 1 then recount = 1 end
end
return { messages, math.floor(bytes), recount }
