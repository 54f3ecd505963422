-- What is noted of a group in the hash of groups. A part of open.lua, claim_group.lua, add_group.lua
-- and drop_group.lua.
--
-- A note is a word, and what belongs to it (TIME: Unix milliseconds by Redis' clock, for people):
--
--   made FROM TIME  the group exists. FROM says how it was made: 'beginning' or 'now' by
--                   `hookmill group add`, 'first' by its first worker
--   adding FROM     `hookmill group add` has begun and not ended. Only in partition 0
--   dropping TIME   `hookmill group drop` has begun and not ended
--   dropped TIME    the group was dropped. Nobody makes it again but `hookmill group add`
--
-- A group that release 0.1 made has no note. Partition 0 decides what a group is; the notes of the
-- others keep a late worker from making the group there.
-- Needs: `groups_key`, set before the include.

local function state_of(group)
  return string.match(redis.call('HGET', groups_key, group) or '', '^%a*')
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Write the note of a group, with the time at its end.
local function note(group, words)
  redis.call('HSET', groups_key, group, words .. ' ' .. string.format('%.0f', now_ms))
end

-- Return whether no worker may make the group now.
local function is_closed(state)
  return state == 'adding' or state == 'dropping' or state == 'dropped'
end
