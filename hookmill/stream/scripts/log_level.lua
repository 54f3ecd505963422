-- Set the level of the log of some programs for a while, or take it back. Levels whose time is over
-- are removed; the key expires with the last of them.
--
-- KEYS  1 log levels
-- ARGV  1 which programs: a name, or '*' for all  2 level; '' takes it back  3 for how long (ms)
-- Reply nothing

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  local ends = string.format('%.0f', now_ms + tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ends)
end
local rows, longest = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #rows, 2 do
  local left = tonumber(string.match(rows[i + 1], ' (%d+)$') or 0) - now_ms
  if left > 0 then
    longest = math.max(longest, left)
  else
    redis.call('HDEL', KEYS[1], rows[i])
  end
end
if longest > 0 then redis.call('PEXPIRE', KEYS[1], longest) end
