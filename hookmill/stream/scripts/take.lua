-- Take up to `count` entries for a consumer, and sort them: run, acknowledge as a duplicate, or
-- park (taking.lua).
--
-- Half of them come from the again stream and half from the stream, where both have enough, so that
-- retries and new messages do not keep each other waiting. Where entries are left, another worker
-- is woken for them (left_behind.lua).
--
-- KEYS  1 to 6 as in taking.lua  7 the group's wake-ups
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 count
-- Reply {runs, duplicates, parked, left}: as in taking.lua; left: 1 where there may be more entries

local group, consumer, window, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
--#include left_behind
local read = 0

-- Read up to `wanted` entries of one of the streams; return whether it may have more.
local function read_from(which, wanted)
  if wanted <= 0 then return true end
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted,
    'STREAMS', KEYS[which], '>')
  local entries = reply and reply[1][2] or {}
  for _, entry in ipairs(entries) do decide(which, entry[1], entry[2]) end
  read = read + #entries
  return #entries == wanted
end

-- Of an odd count, the last one comes from either, by chance.
local may_run_again = read_from(2, math.floor((count + tonumber(time[2]) % 2) / 2))
local may_be_new = read_from(1, count - read)
may_run_again = may_run_again and read_from(2, count - read)
finish()
return answer(left_behind(may_be_new, may_run_again))
