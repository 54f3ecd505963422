-- Take up to `count` entries for a consumer, and sort them: run, acknowledge as a duplicate, or
-- park (taking.lua).
--
-- Half of them come from the again stream and half from the stream, where both have enough, so that
-- retries and new messages do not keep each other waiting. Where entries are left, another worker
-- is woken for them (left_behind.lua).
--
-- Entries are taken until their bytes pass a budget. They are read in steps that fit into what is
-- left of it, even if all of them are as large as the largest one (largest.lua). Mostly that is one
-- step. A step reads at least one entry, so the last one may pass the budget. Where other partitions
-- are asked in the same round trip, the last one does not: then nothing is read that may be too large.
--
-- While all of the group is paused, nothing is read.
--
-- KEYS  1 to 6 as in taking.lua  7 backlog  8 the group's wake-ups
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 count  5 budget (bytes)
--       6 1 where other partitions are asked in the same round trip, else 0
-- Reply {runs, duplicates, parked, largest, bytes, alone, pauses, left}: as in taking.lua; largest: the bytes of
--       the largest entry (-1: not known); bytes: of all entries that were read; alone: 1 where
--       nothing was read that may pass the budget, so that the partition has to be asked alone; pauses:
--       their version (held_back.lua); left: 1 where there may be more entries

local group, consumer, window, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
--#include noted_for_takes
--#include left_behind
--#include largest
local budget, is_shared = tonumber(ARGV[5]), ARGV[6] == '1'
local noted = tonumber(redis.call('HGET', KEYS[7], 'largest') or '')
local largest = noted or math.huge
local before, pauses, all_is_paused = noted_for_takes(counts_key)
if all_is_paused then return answer(noted and largest or -1, 0, 0, pauses, 0) end
local read, bytes, alone, is_older = 0, 0, 0, older_entries(before)

local function take_in(which, id, fields)
  local weight = weight_of(fields)
  read, bytes = read + 1, bytes + weight
  if noted and weight > largest then -- it is of a release that does not note it
    largest = note_largest(KEYS[7], weight, largest)
  end
  if which == 1 and is_older(id) then note_finished(-1, -weight) end -- it counts from now on
  decide(which, id, fields, 0, weight)
end

-- Read up to `wanted` entries of one of the streams; return whether it may have more.
local function read_from(which, wanted)
  while wanted > 0 and bytes < budget do
    local left = budget - bytes
    if is_shared and left < largest and may_have_more(which) then
      if read == 0 then alone = 1 end
      return true
    end
    local step = math.min(wanted, math.max(1, math.floor(left / largest)))
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', step,
      'STREAMS', KEYS[which], '>')
    local entries = reply and reply[1][2] or {}
    for _, entry in ipairs(entries) do take_in(which, entry[1], entry[2]) end
    if #entries < step then return false end
    wanted = wanted - step
  end
  return true
end

-- Of an odd count, the last entry comes from either stream, by chance. So do the last bytes of the
-- budget, where it may not last for all.
local micros, first = tonumber(time[2]), 2
if largest * count > budget then first = 1 + math.floor(micros / 2) % 2 end
local may_have = {}
may_have[first] = read_from(first, math.floor((count + micros % 2) / 2))
may_have[3 - first] = read_from(3 - first, count - read)
if may_have[first] then may_have[first] = read_from(first, count - read) end
finish()
return answer(noted and largest or -1, bytes, alone, pauses, left_behind(may_have))
