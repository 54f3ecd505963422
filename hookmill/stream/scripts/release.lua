-- Move delayed messages that are due to where they will be taken again.
--
-- KEYS  1 again  2 delayed  3 delayed entries  4 sooner
-- ARGV  1 how many at most
-- Reply {moved, wait, told}: how many were, the ms until the next is due (-1: none waits), and the
--       ID behind which `sooner` tells of what is due before that

local MOST_BYTES = 16 * 1024 * 1024 -- in one go: huge bodies must not hold up everybody else

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function wait_for_next()
  local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return head[2] and math.max(0, tonumber(head[2]) - now_ms) or -1
end

local told = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
told = told and told[1] or '0-0'

-- Most looks find nothing, and cost no more than this one.
local wait = wait_for_next()
if wait ~= 0 then return { 0, wait, told } end

local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, ARGV[1])
local moved, bytes = 0, 0
for _, token in ipairs(due) do
  if bytes >= MOST_BYTES then break end
  local packed = redis.call('HGET', KEYS[3], token)
  if packed then redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(packed))) end
  redis.call('HDEL', KEYS[3], token)
  redis.call('ZREM', KEYS[2], token)
  moved, bytes = moved + 1, bytes + #(packed or '')
end
return { moved, wait_for_next(), told }
