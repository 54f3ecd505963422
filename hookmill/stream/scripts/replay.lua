-- Move dead letters to the again stream. Their attempts are counted from the start.
--
-- KEYS  1 dead  2 again  3 busy  4 parked  5 backlog  6 counts  7 the group's wake-ups
-- ARGV  1 n, then n names of fields that are left out: those that tell how it came to be dead
--       then m, and m strings that are added: fields and values in turn
--       then the dead letters' IDs
-- Reply how many were moved; one that is no longer there does not count

local dead_key = KEYS[1]
local again_key, busy_key, parked_key, counts_key = KEYS[2], KEYS[3], KEYS[4], KEYS[6]
--#include finished
--#include owners
--#include order
--#include weight
--#include largest
--#include reason_counts
--#include reasons_gone

local names = {}
for i = 2, 1 + tonumber(ARGV[1]) do names[ARGV[i]] = true end
local added_at = 2 + tonumber(ARGV[1])
local ids_at = added_at + 1 + tonumber(ARGV[added_at])

-- A full Redis lets a script go on whose first write takes no memory. This one deletes nothing.
redis.call('XDEL', KEYS[1], '0-0')

local found = redis.call('HMGET', KEYS[5], 'largest', 'messages')
local largest, messages = tonumber(found[1] or ''), tonumber(found[2] or 0)
local replayed = 0
for i = ids_at, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if found then
    local kept = {}
    for f = 1, #found[2], 2 do
      if not names[found[2][f]] then
        kept[#kept + 1] = found[2][f]
        kept[#kept + 1] = found[2][f + 1]
      end
    end
    for a = added_at + 1, ids_at - 1 do kept[#kept + 1] = ARGV[a] end
    largest = note_largest(KEYS[5], weight_of(kept), largest, messages)
    local _, token, _, key = identity_of(kept, places_of(kept))
    if key == '' or token == '' then
      add_again(kept)
    else
      rejoin(key, token, kept)
    end
    redis.call('XDEL', dead_key, found[1])
    note_gone(found[1], reason_of(found[2]))
    note_finished(-1, -weight_of(kept))
    replayed = replayed + 1
  end
end
keep_finished()
keep_gone()
return replayed
