-- Take over entries from holders that are silent (silence.lua), or those of the consumer itself
-- that it does not know of, because a reply was lost. Sort them: run, acknowledge as a duplicate,
-- or park (taking.lua).
--
-- A suspect was taken over before, so it may be what ended its holders. It goes alone in a reply,
-- after all others, so that several workers share the suspects and nothing else waits for them.
--
-- The entries have `budget` bytes together at most. A single one may have more.
--
-- Each delivery of an entry that is alone in its reply is counted here, because the reply may never
-- arrive. A worker that receives it takes the count away (confirm.lua). At MOST_DELIVERIES the entry
-- becomes a dead letter. A worker asks at most once a lease, so that takes as many leases.
--
-- While all of the group is paused, nothing is taken over from others.
--
-- KEYS  1 to 6 as in taking.lua  7 lease numbers  8 watched  9 deliveries  10 dead
--       11 the group's wake-ups
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 lease (ms)  5 count  6 budget (bytes)
--       7 'silent': from others; 'own': the consumer's own, and then for each entry that it knows
--       of: key number, entry ID
-- Reply {runs, duplicates, parked, more, dead, pauses}: as in taking.lua; more: 1 if there may be more to
--       take over; dead: {key number, entry ID, message ID, error} of each dead letter; pauses: their
--       version (held_back.lua)

local group, consumer, window, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local count, budget, is_own = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == 'own'
local numbers_key, watched_key, deliveries_key, dead_key = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
--#include silence
--#include undeliverable
--#include noted_for_takes
local PAGE, MOST_DELIVERIES = 100, 10

local _, pauses, all_is_paused = noted_for_takes(counts_key)
if all_is_paused and not is_own then return answer(0, {}, pauses) end

local known = {}
for i = 8, #ARGV, 2 do known[ARGV[i] .. ' ' .. ARGV[i + 1]] = true end

local seen, bytes, more, suspect, deleted, dead = 0, 0, 0, nil, {}, {}
local first -- the first entry of this reply, by its field in the hash of deliveries

-- Take over one entry, unless it is too large for what is left of the budget.
local function claim(which, id, deliveries)
  local entry = redis.call('XRANGE', KEYS[which], id, id)[1]
  if not entry then -- somebody deleted it
    redis.call('XACK', KEYS[which], group, id)
    if which == 1 then deleted[#deleted + 1] = id end
    return
  end
  local field = which .. ' ' .. id
  local unconfirmed = tonumber(redis.call('HGET', deliveries_key, field) or 0)
  if unconfirmed >= MOST_DELIVERIES then
    dead[#dead + 1] = make_dead_letter(which, id, entry[2], unconfirmed)
    redis.call('HDEL', deliveries_key, field)
    return
  end
  local weight = weight_of(entry[2])
  bytes = bytes + weight
  if seen > 0 and bytes > budget then
    more = 1
    return
  end
  seen, first = seen + 1, first or field
  redis.call('XCLAIM', KEYS[which], group, consumer, 0, id, 'RETRYCOUNT', deliveries + 1, 'JUSTID')
  decide(which, id, entry[2], deliveries >= 2 and 1 or 0, weight)
end

local function look_at(which, id, deliveries)
  if known[which .. ' ' .. id] then return end
  if seen >= count then
    more = 1
  elseif deliveries < 2 then
    claim(which, id, deliveries)
  else
    suspect = suspect or { which, id, deliveries }
  end
end

-- Go through what a holder holds in one of the streams, until there is enough.
local function go_through(which, holder, idle)
  local start = '-'
  repeat
    local rows = redis.call('XPENDING', KEYS[which], group, 'IDLE', idle, start, '+', PAGE, holder)
    for _, row in ipairs(rows) do
      if more == 1 then return end
      look_at(which, row[1], row[4])
      start = '(' .. row[1]
    end
  until #rows < PAGE
end

local holders = { { consumer, 0 } }
if not is_own then
  holders = {}
  local notes = redis.call('HGETALL', watched_key)
  for i = 1, #notes, 2 do
    local idle = notes[i] ~= consumer and least_idle_of(notes[i], notes[i + 1])
    if idle then holders[#holders + 1] = { notes[i], idle } end
  end
end
for which = 2, 1, -1 do -- what runs again first
  for _, holder in ipairs(holders) do go_through(which, unpack(holder)) end
end
if suspect and seen == 0 then
  claim(unpack(suspect))
  more = 1
elseif suspect then
  more = 1
end
if #deleted > 0 then forget_heads(deleted) end
keep_dead()
finish()
if seen == 1 and #runs == 1 then redis.call('HINCRBY', deliveries_key, first, 1) end
return answer(more, dead, pauses)
