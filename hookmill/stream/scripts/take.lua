-- Take up to `count` entries for a consumer, and sort them: run, acknowledge as a duplicate, or
-- park (taking.lua).
--
-- Half of them come from the again stream and half from the stream, where both have enough, so that
-- retries and new messages do not keep each other waiting. In a stream that has no more entries,
-- the wake-up group is moved to the end, so that the next entry wakes a worker
-- (hookmill/stream/wakeup.py).
--
-- KEYS  as in taking.lua
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 wake-up group  5 count
-- Reply {runs, duplicates, parked}, as in taking.lua

local group, consumer, window, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
local read = 0

-- Read up to `wanted` entries of one of the streams; return whether it had none.
local function read_from(which, wanted)
  if wanted <= 0 then return false end
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted,
    'STREAMS', KEYS[which], '>')
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    read = read + 1
    decide(which, entry[1], entry[2])
  end
  if not reply then redis.call('XGROUP', 'SETID', KEYS[which], ARGV[4], '$') end
  return not reply
end

-- Of an odd count, the last one comes from either, by chance.
local is_empty = read_from(2, math.floor((count + tonumber(time[2]) % 2) / 2))
read_from(1, count - read)
if not is_empty then read_from(2, count - read) end
finish()
return answer()
