-- Move delayed messages that are due to the again stream.
--
-- KEYS  1 again  2 delayed  3 delayed entries  4 sooner  5 the group's wake-ups
-- ARGV  1 how many at most
-- Reply {moved, wait, last ID}: how many were moved, in how many ms the next one is due (-1: none
--       is delayed), and the last ID of `sooner`. Where a message is delayed that is due before
--       that, an entry with a greater ID follows (hookmill/stream/wakeup.py).

local again_key = KEYS[1]
--#include ring
local MOST_BYTES = 16 * 1024 * 1024 -- in one step: large bodies must not hold up other commands

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function wait_for_next()
  local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return head[2] and math.max(0, tonumber(head[2]) - now_ms) or -1
end

local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local last_id = last and last[1] or '0-0'

-- Mostly nothing is due; then this one look is all that it costs.
local wait = wait_for_next()
if wait ~= 0 then return { 0, wait, last_id } end

local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
local moved, bytes = 0, 0
for _, token in ipairs(due) do
  if bytes >= MOST_BYTES then break end
  local packed = redis.call('HGET', KEYS[3], token)
  if packed then add_again(cmsgpack.unpack(packed)) end
  redis.call('HDEL', KEYS[3], token)
  redis.call('ZREM', KEYS[2], token)
  moved, bytes = moved + 1, bytes + #(packed or '')
end
return { moved, wait_for_next(), last_id }
