-- Delete dead letters for good, and release the message IDs they own: a sender that delivers one
-- again is then heard. Another entry of the same message (a second handler's) keeps nothing: it
-- takes the ID anew when it runs again, unless a new delivery has done so first.
--
-- KEYS  1 dead  2 owners
-- ARGV  the dead letters' IDs
-- Reply how many were deleted (one that is gone meanwhile is not counted)

local owners_key = KEYS[2]
--#include owners

-- Every generation there is, whatever window the workers were told: `window` is not needed.
local generations = {}
for _, field in ipairs(redis.call('HKEYS', owners_key)) do
  local number = string.match(field, '^(%d+):buckets$')
  if number then generations[#generations + 1] = generation(number) end
end

local dropped = 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  if found then
    redis.call('XDEL', KEYS[1], found[1])
    local digest, token = names_of(found[2], places_of(found[2]))
    for _, one in ipairs(#digest < 4 and {} or generations) do
      this, last = one, nil
      disown(digest, token)
    end
    dropped = dropped + 1
  end
end
return dropped
