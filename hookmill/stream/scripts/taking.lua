-- Decides what becomes of each entry that was read. A part of take.lua, takeover.lua and direct_read.lua.
--
-- decide() is called for each entry, finish() once after the last one, answer() makes the reply.
--
-- KEYS  1 stream  2 again  3 owners  4 busy  5 parked  6 counts
-- Needs: `group`, `window` (dedup window in seconds), `now_ms` (Redis' time), set before the
-- include.
-- Reply {runs, duplicates, parked, ...}
--       runs: the entries that the worker is to run, see below
--       duplicates: {key number, entry ID, message ID} of each entry whose ID another entry owns;
--       they are acknowledged
--       parked: how many entries have to wait for another message with their ordering key

local owners_key = KEYS[3]
local again_key, busy_key, parked_key, counts_key = KEYS[2], KEYS[4], KEYS[5], KEYS[6]
--#include weight
--#include finished
--#include acknowledge
--#include owners
--#include order
local history_key = string.gsub(owners_key, 'owners$', 'history') -- for duplicates: mostly there are none
--#include history
local duplicates, parked = {}, 0

-- The entries to run. Entries with the same field names that follow one another are one run: {key
-- number, 1 for suspects or 0, names of the fields, words}. The words are the ID, the bytes and the
-- values of the fields, entry by entry. Mostly all entries are of one run, so the names are sent once.
local runs = {}
local names, places = {}, {} -- the last entry's field names, and the positions of their values

local function has_names(fields)
  if #fields ~= 2 * #names then return false end
  for i = 1, #names do
    if fields[2 * i - 1] ~= names[i] then return false end
  end
  return true
end

local function read_names(fields)
  if has_names(fields) then return end
  names, places = {}, places_of(fields)
  for i = 1, #fields, 2 do names[(i + 1) / 2] = fields[i] end
end

local function add_to_runs(which, id, fields, suspect, bytes)
  local run = runs[#runs]
  if not run or run[1] ~= which or run[2] ~= suspect or run[3] ~= names then
    run = { which, suspect, names, {} }
    runs[#runs + 1] = run
  end
  local words = run[4]
  local n = #words + 2
  words[n - 1], words[n] = id, bytes
  for i = 2, #fields, 2 do
    n = n + 1
    words[n] = fields[i]
  end
end

-- Decide about an entry; return whether it runs. If not, it was a duplicate, or it is parked now.
-- `bytes` is its weight. An entry without a digest is of a wire version that this release does not
-- know: the worker decides about it.
local function may_go(which, id, fields, bytes)
  read_names(fields)
  local digest, token, message_id, key = identity_of(fields, places)
  if token == '' then token = id end
  local is_owner, owner = true, nil
  if #digest >= 4 then is_owner, owner = own(digest, packed(token), fields[places.window]) end
  if not is_owner then
    -- The head of a key can be a duplicate too: its ID was forgotten after the window, or with a
    -- dead letter that was dropped, and a new delivery owns it now.
    change_head(key, token, -1)
    acknowledge(which, group, id)
    note_finished(1, bytes)
    duplicates[#duplicates + 1] = { which, id, message_id }
    keep_duplicate(unpacked(owner), token, now_ms)
    return false
  end
  if may_run(key, token) then return true end
  note_finished(0, -park(key, token, fields))
  acknowledge(which, group, id)
  parked = parked + 1
  return false
end

-- Decide about an entry, and put it into the reply where it runs. `suspect` is 1 if it was taken over
-- before.
local function decide(which, id, fields, suspect, bytes)
  if may_go(which, id, fields, bytes) then add_to_runs(which, id, fields, suspect, bytes) end
end

local function finish()
  close_generations()
  keep_finished()
  keep_history()
  if #duplicates > 0 then redis.call('HINCRBY', KEYS[6], 'repeats', #duplicates) end
end

local function answer(...)
  return { runs, duplicates, parked, ... }
end
