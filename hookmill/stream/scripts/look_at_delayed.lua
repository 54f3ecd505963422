-- Look in which partitions delayed messages are due, and which worker releases them
-- (hookmill/stream/releases.py). Where none does, the caller does from now on.
--
-- The releaser raises a number with each look, so that the others see that it works.
--
-- KEYS  1 releaser  2 due  3 sooner  4 counts
-- ARGV  1 consumer  2 the caller takes the task over if the number is still this one ('': it does
--       not)
-- Reply {is releaser, number, wait, last ID, due, pauses}: 1 where the caller is the releaser,
--       else 0; in how many ms the first message or the end of a pause is due (-1: none is); the last ID
--       of `sooner`: where a message is delayed that is due before all of these, or the pauses change,
--       an entry with a greater ID follows; of the partitions in which something is due (for others than
--       the releaser: late), the names of the again streams (messages) and of the pauses; the version
--       of the pauses

local LATE = 2000 -- ms after which the others see what the releaser should have done

local name, number = unpack(redis.call('HMGET', KEYS[1], 'name', 'number'))
number = tonumber(number or 0)
if not name or ARGV[2] ~= '' and tonumber(ARGV[2]) == number then
  name = ARGV[1]
  redis.call('HSET', KEYS[1], 'name', name)
end
local is_ours = name == ARGV[1]
if is_ours then
  number = redis.call('HINCRBY', KEYS[1], 'number', 1)
  -- A late worker may write this after its group was dropped. Where it is missing, the next worker
  -- that looks is the releaser.
  redis.call('EXPIRE', KEYS[1], 86400)
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local wait = head[2] and math.max(0, tonumber(head[2]) - now_ms) or -1
local seen_until = is_ours and now_ms or now_ms - LATE
local due = wait == 0 and redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', seen_until) or {}
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return { is_ours and 1 or 0, number, wait, last and last[1] or '0-0', due,
  tonumber(redis.call('HGET', KEYS[4], 'pauses') or 0) }
