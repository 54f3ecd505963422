-- Delete dead letters for good, and forget the message IDs they own: where a sender delivers one
-- again, it runs.
--
-- There may be another entry of the same message, of a second handler. It loses the ID as well.
-- When it is replayed it owns the ID again, unless a new delivery did so first.
--
-- KEYS  1 dead  2 owners
-- ARGV  the dead letters' IDs
-- Reply how many were deleted; one that is no longer there does not count

local owners_key = KEYS[2]
--#include owners

local generations = known_generations()

local dropped = 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  if found then
    redis.call('XDEL', KEYS[1], found[1])
    local digest, token = identity_of(found[2], places_of(found[2]))
    if #digest >= 4 then disown(generations, digest, token) end
    dropped = dropped + 1
  end
end
return dropped
