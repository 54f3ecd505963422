-- Move delayed messages that are due to the again stream.
--
-- KEYS  1 again  2 delayed  3 delayed entries  4 due  5 counts  6 the group's wake-ups
-- ARGV  1 how many at most
-- Reply {moved, wait}: how many were moved, and in how many ms the next one is due (-1: none is
--       delayed)

local again_key, delayed_key, due_key, counts_key = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
--#include wake
--#include due
local MOST_BYTES = 16 * 1024 * 1024 -- in one step: large bodies must not hold up other commands

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include clock

local function wait_for_next()
  local due = note_first_delayed()
  return due and math.max(0, due - now_ms) or -1
end

if redis.call('EXISTS', delayed_key) == 1 then heed_clock() end

-- Mostly nothing is due; then this one look is all that it costs.
local wait = wait_for_next()
if wait ~= 0 then return { 0, wait } end

local due = redis.call('ZRANGEBYSCORE', delayed_key, '-inf', now_ms, 'LIMIT', 0, ARGV[1])
local moved, bytes = 0, 0
for _, token in ipairs(due) do
  if bytes >= MOST_BYTES then break end
  local packed = redis.call('HGET', KEYS[3], token)
  if packed then add_again(cmsgpack.unpack(packed)) end
  redis.call('HDEL', KEYS[3], token)
  redis.call('ZREM', delayed_key, token)
  moved, bytes = moved + 1, bytes + #(packed or '')
end
return { moved, wait_for_next() }
