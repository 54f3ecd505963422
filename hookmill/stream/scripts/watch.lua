-- Note for how long each holder's lease number has stood still (silence.lua).
--
-- Time that was watched counts only for notes that were there when that time began. So a note that a
-- later look has made begins with 0, and a look that arrives behind a later one changes nothing. The
-- numbers of looks start again where Redis lost them.
--
-- It also forgets what was noted of deliveries of entries that are finished.
--
-- KEYS  1 stream  2 again  3 lease numbers  4 watched  5 deliveries
-- ARGV  1 group  2 consumer, whose own entries are not looked at  3 the number of the look
--       4 for how many ms this worker has watched (-1: nobody watched for a while, so all ages begin
--       at 0 again)  5 the last look that was over when it began to watch  6 lease (ms)
-- Reply 1 if entries may be taken over, else 0

local group, watched_ms, lease = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[6])
local numbers_key, watched_key = KEYS[3], KEYS[4]
local look, before = tonumber(ARGV[3]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include silence
local MOST_LATE = 100

local last = string.match(redis.call('HGET', watched_key, '') or '', '^(%d+) ')
local behind = last and tonumber(last) - look
if behind and behind >= 0 and behind < MOST_LATE then return 0 end
redis.call('HSET', watched_key, '', ARGV[3] .. ' ' .. string.format('%.0f', now_ms))
redis.call('EXPIRE', watched_key, 86400) -- nobody looks in a group that was dropped

-- Write a holder's note again and return it.
local function noted(holder)
  local number = redis.call('HGET', numbers_key, holder) or ''
  local old = redis.call('HGET', watched_key, holder) or ''
  local age, born, seen = string.match(old, '^(%d+) (%d+) (.*)$')
  if seen ~= number or watched_ms < 0 then
    age, born = 0, look
  elseif tonumber(born) > look then -- the numbers of looks have started again
    born = look
  elseif tonumber(born) <= before then
    age = age + watched_ms
  end
  local note = string.format('%.0f %.0f ', age, born) .. number
  redis.call('HSET', watched_key, holder, note)
  return note
end

local notes, found = {}, 0
for which = 1, 2 do
  local summary = redis.pcall('XPENDING', KEYS[which], group)
  for _, row in ipairs(summary[4] or {}) do -- a lost group has none
    local holder = row[1]
    if holder ~= ARGV[2] then
      notes[holder] = notes[holder] or noted(holder)
      local idle = found == 0 and least_idle_of(holder, notes[holder])
      if idle and #redis.call('XPENDING', KEYS[which], group, 'IDLE', idle, '-', '+', 1, holder) > 0
      then found = 1 end
    end
  end
end
for _, holder in ipairs(redis.call('HKEYS', watched_key)) do
  if holder ~= '' and not notes[holder] then redis.call('HDEL', watched_key, holder) end
end
for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
  local which, id = string.match(field, '^([12]) (%S+)')
  local held = redis.pcall('XPENDING', KEYS[tonumber(which)], group, id, id, 1)
  if #held == 0 then redis.call('HDEL', KEYS[5], field) end
end
return found
