-- Read which levels of the log are set for a while. It writes nothing.
--
-- KEYS  1 log levels
-- ARGV  none
-- Reply for each that is not over: {which programs, level, for how long it still counts (ms)}

local rows = redis.call('HGETALL', KEYS[1])
if #rows == 0 then return {} end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = {}
for i = 1, #rows, 2 do
  local level, ends = string.match(rows[i + 1], '^(%a+) (%d+)$')
  local left = tonumber(ends or 0) - now_ms
  if left > 0 then found[#found + 1] = { rows[i], level, left } end
end
return found
