-- Delete dead letters for good, and forget the message IDs they own: where a sender delivers one
-- again, it runs.
--
-- There may be another entry of the same message, of a second handler. It loses the ID as well.
-- When it is replayed it owns the ID again, unless a new delivery did so first.
--
-- KEYS  1 dead  2 owners
-- ARGV  the dead letters' IDs
-- Reply how many were deleted; one that is no longer there does not count

local dead_key, owners_key = KEYS[1], KEYS[2]
--#include owners
--#include reason_counts
--#include reasons_gone

local generations = known_generations()

local dropped = 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  if found then
    redis.call('XDEL', dead_key, found[1])
    note_gone(found[1], reason_of(found[2]))
    local digest, token = identity_of(found[2], places_of(found[2]))
    if #digest >= 4 then disown(generations, digest, token) end
    dropped = dropped + 1
  end
end
keep_gone()
return dropped
