-- Who may replay what a group has handled: one run at a time. A part of the scripts of a replay.
--
-- The field `replay` of the hash of counts has the name of the run, and when it last did something.
-- It goes when the group is made again (open.lua): then a new look is needed.

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Return when it last did something, the name of the run that has the right ('': none), and for how
-- long it was silent.
local function right_of(counts_key)
  local text = redis.call('HGET', counts_key, 'replay') or ''
  local name, at = string.match(text, '^(%S+) (%d+)$')
  if not name then return 0, '', 0 end
  return tonumber(at), name, math.abs(now_ms - tonumber(at))
end

local function keep_right(counts_key, run)
  redis.call('HSET', counts_key, 'replay', run .. ' ' .. string.format('%.0f', now_ms))
end

-- Return whether this run still has the right, and note that it does something.
local function has_right(counts_key, run)
  local _, name = right_of(counts_key)
  if name ~= run then return false end
  keep_right(counts_key, run)
  return true
end
