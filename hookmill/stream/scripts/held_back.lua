-- The pauses of a group, and what they hold back. A part of settle.lua and pause_end.lua.
--
-- `paused_key` names a hash of this partition:
--   pause NAME   'on UNTIL JSON': what NAME says is paused, until a time by Redis' clock (Unix ms; 0: until
--                somebody resumes it). 'resuming 0 JSON': it is paused no more, and what it has held
--                back is not yet in the again stream. JSON has who, why and since when
--   count NAME   how many entries it holds back
--   count        how many all pauses hold back
-- NAME is `all`, `handler:NAME`, `source:NAME` or `key:SOURCE:KEY`. hookmill/stream/pauses.py tells which
-- entries each of them means. With ':' and NAME behind it, the key names the list of the entries that
-- are held back, the oldest first. Nothing of this expires.
--
-- The version in `pauses` of the hash of counts changes with each pause. Each take replies with it, so
-- that a worker that knows another one reads the pauses again before it begins what it has taken. While
-- all is paused, the hash of counts has `all`, and a take gives nothing (noted_for_takes.lua).
--
-- An entry that is held back is as unfinished as a delayed one: it counts as backlog, and as an entry
-- of the head of its ordering key. It is in a list only while its pause is on or resuming. So what a
-- worker settles late goes to the again stream where the pause has ended meanwhile.
-- Needs: `paused_key`, set before the include; add_again() of wake.lua.

-- Return the state of a pause ('': there is none), its end, and the rest of what is noted of it.
local function pause_of(name)
  local noted = redis.call('HGET', paused_key, 'pause ' .. name) or ''
  local state, ends, about = string.match(noted, '^(%a+) (%d+) (.*)$')
  return state or '', tonumber(ends or 0), about
end

local function count_held_back(name, change)
  redis.call('HINCRBY', paused_key, 'count ' .. name, change)
  redis.call('HINCRBY', paused_key, 'count', change)
end

-- Hold an entry back, or have it taken again if its pause has ended.
local function hold_back(name, fields)
  if pause_of(name) ~= 'on' then return add_again(fields) end
  redis.call('RPUSH', paused_key .. ':' .. name, cmsgpack.pack(fields))
  count_held_back(name, 1)
end
