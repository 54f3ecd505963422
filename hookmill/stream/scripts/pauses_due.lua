-- Notes when the releaser has to look after the pauses of this partition, and tells all workers that
-- they have changed. A part of pause_on.lua and pause_end.lua. hookmill/stream/releases.py tells the protocol.
--
-- Needs: `paused_key`, `counts_key`, `due_key`, `sooner_key` and `now_ms`, set before the include.

-- Note when the first pause ends by itself. One that is being resumed is due at `go_on` (ms): its
-- command may have been killed.
local function note_pauses_due(go_on)
  local first
  local all = redis.call('HGETALL', paused_key)
  for i = 1, #all, 2 do
    local state, ends = string.match(all[i + 1], '^(%a+) (%d+) ')
    if string.sub(all[i], 1, 6) == 'pause ' and state then
      local at = state == 'on' and tonumber(ends) or go_on
      if at > 0 and at < (first or math.huge) then first = at end
    end
  end
  if first then
    redis.call('ZADD', due_key, string.format('%.0f', first), paused_key)
  else
    redis.call('ZREM', due_key, paused_key)
  end
end

-- Give the pauses a new version. It is a time, so that none comes twice, even if Redis lost all.
local function change_version()
  local last = tonumber(redis.call('HGET', counts_key, 'pauses') or 0)
  local version = string.format('%.0f', math.max(last + 1, now_ms))
  redis.call('HSET', counts_key, 'pauses', version)
  redis.call('XADD', sooner_key, 'MAXLEN', 1, '*', 'pauses', version)
end
