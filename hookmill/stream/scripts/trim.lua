-- Drop the entries that every group has finished and that are older than the retention, and what the
-- index has of them. Note each group's low-water mark, up to which it has finished all; a lost group
-- restarts after it.
--
-- KEYS  1 stream  2 backlog  3 index
-- ARGV  1 retention (ms), then the parts of the names of a group's keys, as in measure.lua
-- Reply how many entries were dropped

--#include group_names
--#include id_parts

local function before(a, b)
  local a_ms, a_seq = parts_of(a)
  local b_ms, b_seq = parts_of(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end

local function following(id)
  local ms, seq = parts_of(id)
  -- Lua cannot count beyond 2^53. Only the last possible ID of a millisecond is that great.
  if seq >= 9007199254740992 then return string.format('%.0f-0', ms + 1) end
  return string.format('%.0f-%.0f', ms, seq + 1)
end

local function preceding(id)
  local ms, seq = parts_of(id)
  if seq >= 9007199254740992 then return string.format('%.0f-9007199254740991', ms) end
  if seq > 0 then return string.format('%.0f-%.0f', ms, seq - 1) end
  return string.format('%.0f-18446744073709551615', ms - 1)
end

local groups = groups_of(KEYS[1])
if #groups == 0 then return 0 end
for _, group in ipairs(groups) do notice_new(KEYS[1], KEYS[2], groups, group, unpack(ARGV, 2)) end

-- The oldest entry that some group has not finished. It and all later ones must stay.
local unfinished
for _, group in ipairs(groups) do
  local oldest = redis.call('XPENDING', KEYS[1], group['name'])[2]
    or following(group['last-delivered-id'])
  if not unfinished or before(oldest, unfinished) then unfinished = oldest end
  local mark = names_of(group['name'], unpack(ARGV, 2)).low_water
  redis.call('SET', mark, preceding(oldest))
end


local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local by_age = string.format('%.0f-0', math.max(0, now_ms - tonumber(ARGV[1])))
if tonumber(ARGV[1]) > 0 and before(by_age, unfinished) then unfinished = by_age end
redis.call('XTRIM', KEYS[3], 'MINID', '=', unfinished)
return redis.call('XTRIM', KEYS[1], 'MINID', '=', unfinished)
