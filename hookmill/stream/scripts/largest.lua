-- How many bytes the largest entry may have that is still to be taken. A part of append.lua,
-- replay.lua, take.lua and direct_read.lua.
--
-- The field `largest` of the hash of the backlog keeps it, so that a take knows, before it reads,
-- how many entries fit into its budget. Whoever adds a message raises it; it goes when the stream is
-- empty and nothing is unfinished (backlog.lua). Where messages are counted and the field is
-- missing, a release wrote them that does not keep it: then it is not known.

-- Note an entry's bytes. `largest` (nil: there is none) and `messages` are what the hash has.
-- Return what `largest` is now.
local function note_largest(key, bytes, largest, messages)
  if largest and bytes <= largest or not largest and messages > 0 then return largest end
  redis.call('HSET', key, 'largest', string.format('%.0f', bytes))
  return bytes
end
