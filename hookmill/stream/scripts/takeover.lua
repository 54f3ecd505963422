-- Go on with the group's sweep through the pending entries: take over those whose worker was silent
-- for a lease, and sort them: run, acknowledge as a duplicate, or park (taking.lua).
--
-- All workers share one sweep. Its position is kept in Redis, so it goes on where it stopped, no
-- matter which worker calls, and each pending entry is looked at once in a sweep.
--
-- KEYS  1 to 6 as in taking.lua  7 sweep  8 the group's wake-ups
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 lease (ms)  5 pause between sweeps (ms)
--       6 when the caller was last in touch (Unix ms by Redis' clock; 0: unknown)  7 count
-- Reply {runs, duplicates, parked, wait}: as in taking.lua; wait: the sweep continues after that
--       many ms

local group, consumer, window, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[7])
local lease, pause, in_touch = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking

-- Return 1 for an entry that was taken over before: it was delivered, taken over, and now once
-- more.
local function is_suspect(key, id)
  local deliveries = redis.call('XPENDING', key, group, id, id, 1)[1][4]
  return deliveries > 2 and 1 or 0
end

-- Take over entries from `cursor` on; return where to go on, '0-0' at the end of the stream.
local function claim(which, cursor)
  local key = KEYS[which]
  local claimed = redis.call('XAUTOCLAIM', key, group, consumer, lease, cursor, 'COUNT', count)
  local is_old = false
  for _, entry in ipairs(claimed[2]) do
    if entry then
      decide(which, entry[1], entry[2], is_suspect(key, entry[1]), weight_of(entry[2]))
    else
      is_old = true
    end
  end
  local deleted = claimed[3] or {}
  -- For a pending entry that was deleted, Redis before 7.0 gives nil, and keeps it pending.
  if is_old then
    for _, held in ipairs(redis.call('XPENDING', key, group, '-', '+', count, consumer)) do
      if #redis.call('XRANGE', key, held[1], held[1]) == 0 then
        redis.call('XACK', key, group, held[1])
        deleted[#deleted + 1] = held[1]
      end
    end
  end
  if #deleted > 0 then forget_heads(deleted) end
  return claimed[1]
end

-- A sweep that was sent before an outage and runs after it would take over from living workers,
-- because they could not renew meanwhile. They must be able to renew first.
if in_touch > 0 and now_ms - in_touch > lease / 2 then
  return answer(tonumber(lease))
end

local place = redis.call('HMGET', KEYS[7], 'next', 'which', 'cursor')
local wait = tonumber(place[1] or 0) - now_ms
-- A longer wait than any pause means that Redis' clock was set back: then do not wait.
if wait > 0 and wait <= 2 * pause then return answer(wait) end

local which = tonumber(place[2] or 2)
local cursor = claim(which, place[3] or '0-0')
wait = 0
if cursor == '0-0' then
  which = 3 - which
  if which == 2 then wait = pause end -- both streams are through
end
redis.call('HSET', KEYS[7], 'next', string.format('%.0f', now_ms + wait),
  'which', which, 'cursor', cursor)
finish()
return answer(wait)
