-- Note for how long each holder's lease number has stood still (silence.lua).
--
-- A look that arrives late, behind a later one, changes nothing: its time is not behind the notes
-- that the later one made. The numbers of looks begin anew where Redis lost them.
--
-- KEYS  1 stream  2 again  3 lease numbers  4 watched
-- ARGV  1 group  2 consumer, whose own entries are not looked at  3 the number of the look
--       4 for how many ms this worker has watched since the last look, alone (-1: nobody has, for
--       so long that all ages begin anew)  5 lease (ms)
-- Reply 1 if entries may be taken over, else 0

local group, watched_ms, lease = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local numbers_key, watched_key = KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include silence
local MOST_LATE = 100

local last = string.match(redis.call('HGET', watched_key, '') or '', '^(%d+) ')
local behind = last and tonumber(last) - tonumber(ARGV[3])
if behind and behind >= 0 and behind < MOST_LATE then return 0 end
redis.call('HSET', watched_key, '', ARGV[3] .. ' ' .. string.format('%.0f', now_ms))

-- Write a holder's note anew and return it.
local function noted(holder)
  local number = redis.call('HGET', numbers_key, holder) or ''
  local age, old = string.match(redis.call('HGET', watched_key, holder) or '', '^(%d+) (.*)$')
  age = (old == number and watched_ms >= 0) and tonumber(age) + watched_ms or 0
  local note = string.format('%.0f ', age) .. number
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
return found
