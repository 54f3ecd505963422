-- Take up to `count` entries, and settle whose their IDs are and whose turn it is.
--
-- What is to be run again and what is new share the places evenly where there is enough of both, so
-- that neither keeps the other waiting. Where nothing is to be had, the group's bell is set to the
-- end: what comes from now on rings.
--
-- KEYS  as in taking.lua
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 the bell's name  5 count
-- Reply {runs, repeats, parked}: runs are the entries, as in taking.lua; repeats are the {key
--       number, entry ID, message ID} of those that only repeated an ID which another entry owns,
--       acknowledged; parked is how many will come when it is their turn

local group, consumer, window, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
local read = 0

-- Read up to `wanted` entries of one of the streams; return whether it has no more.
local function read_from(which, wanted)
  if wanted <= 0 then return false end
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted,
    'STREAMS', KEYS[which], '>')
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    read = read + 1
    judge(which, entry[1], entry[2])
  end
  if not reply then redis.call('XGROUP', 'SETID', KEYS[which], ARGV[4], '$') end
  return not reply
end

-- An odd one out goes to either, by the microsecond.
local is_empty = read_from(2, math.floor((count + tonumber(time[2]) % 2) / 2))
read_from(1, count - read)
if not is_empty then read_from(2, count - read) end
finish()
return answer()
