-- Keeps delayed messages on time where Redis' clock is set back. A part of settle.lua and
-- release.lua.
--
-- The times at which messages are due are Redis' own. The last time that was seen is kept with
-- them. Where it is now earlier than that, the clock was set back, and all that is delayed becomes
-- due earlier by as much. The releaser looks every 30 s, so a message may be late by about a minute.
-- Where the clock is set forward, messages are due too early.
-- Needs: `counts_key`, `delayed_key` and `now_ms` (Redis' time), set before the include.

local LEAST_STEP = 1000 -- ms: two servers of one replication differ by less
local AT_ONCE_MOVED = 500

local has_heeded = false

-- Move what is delayed where the clock was set back. It is looked at once in a script.
local function heed_clock()
  if has_heeded then return end
  has_heeded = true
  local seen = tonumber(redis.call('HGET', counts_key, 'clock') or 0)
  redis.call('HSET', counts_key, 'clock', string.format('%.0f', now_ms))
  local step = seen - now_ms
  if step < LEAST_STEP then return end
  local from = 0
  repeat
    local to = from + AT_ONCE_MOVED - 1
    local rows = redis.call('ZRANGE', delayed_key, from, to, 'WITHSCORES')
    local moved = {}
    for i = 1, #rows, 2 do
      moved[i] = string.format('%.0f', tonumber(rows[i + 1]) - step)
      moved[i + 1] = rows[i]
    end
    if #moved > 0 then redis.call('ZADD', delayed_key, unpack(moved)) end
    from = from + AT_ONCE_MOVED
  until #rows < 2 * AT_ONCE_MOVED
end
