-- Notes when the first delayed message of this partition is due. A part of settle.lua and
-- release.lua. hookmill/stream/releases.py tells the protocol.
--
-- Needs: `again_key`, `due_key` and `delayed_key`, set before the include.

-- Note that a message is delayed. Where it is due before all others of all partitions, wake up all
-- workers that wait for that. They are told before it is written, because a worker that is woken
-- for nothing does no harm.
local first_due, own_due
local function note_delayed(due, sooner_key)
  if not first_due then
    local head = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
    first_due = tonumber(head[2]) or math.huge
    own_due = tonumber(redis.call('ZSCORE', due_key, again_key) or math.huge)
  end
  if due < first_due then
    redis.call('XADD', sooner_key, 'MAXLEN', 1, '*', 'due', due)
    first_due = due
  end
  if due < own_due then
    redis.call('ZADD', due_key, due, again_key)
    own_due = due
  end
end

-- Note when the first delayed message is due after some were moved; return that time, or nil.
local function note_first_delayed()
  local due = redis.call('ZRANGE', delayed_key, 0, 0, 'WITHSCORES')[2]
  if not due then
    redis.call('ZREM', due_key, again_key)
  elseif redis.call('ZSCORE', due_key, again_key) ~= due then
    redis.call('ZADD', due_key, due, again_key)
  end
  return tonumber(due)
end
