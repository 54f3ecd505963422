-- What becomes of entries that were read. A part of the scripts that take, put before their text.
--
-- KEYS  1 stream  2 again  3 owners  4 busy  5 parked  6 counts
-- Needs: `group`, `window` (seconds), `now_ms`.

local owners_key, now = KEYS[3], math.floor(now_ms / 1000)
local again_key, busy_key, parked_key = KEYS[2], KEYS[4], KEYS[5]
--#include acknowledge
--#include owners
--#include order
local repeats, parked = {}, 0

-- The entries to be run, in runs of those that are alike: {key number, 1 for suspects, the names of
-- their fields, words}. The words are each one's ID and its fields' values. Mostly all are of one
-- run, so what they have in common is told once.
local runs = {}
local names, places = {}, {} -- of the last entry's fields: their names, and where their values are

local function has_names(fields)
  if #fields ~= 2 * #names then return false end
  for i = 1, #names do
    if fields[2 * i - 1] ~= names[i] then return false end
  end
  return true
end

local function look_at(fields)
  if has_names(fields) then return end
  names, places = {}, places_of(fields)
  for i = 1, #fields, 2 do names[(i + 1) / 2] = fields[i] end
end

local function hand_out(which, id, fields, suspect)
  local run = runs[#runs]
  if not run or run[1] ~= which or run[2] ~= suspect or run[3] ~= names then
    run = { which, suspect, names, {} }
    runs[#runs + 1] = run
  end
  local words = run[4]
  local n = #words + 1
  words[n] = id
  for i = 2, #fields, 2 do
    n = n + 1
    words[n] = fields[i]
  end
end

-- Judge an entry: it is to be run, only repeats an ID that another entry owns, or has to wait for
-- others with its key. `suspect` goes with it. An entry without a digest is of a wire version that
-- has none: it is left to the worker.
local function judge(which, id, fields, suspect)
  look_at(fields)
  local digest, token, message_id, key = names_of(fields, places)
  if token == '' then token = id end
  if #digest >= 4 and not own(digest, token) then
    -- A head can lose its ID: forgotten after its window, or released with a dead letter.
    move_on(key, token, -1)
    acknowledge(which, group, id)
    repeats[#repeats + 1] = { which, id, message_id }
  elseif may_run(key, token) then
    hand_out(which, id, fields, suspect or 0)
  else
    park(key, token, fields)
    acknowledge(which, group, id)
    parked = parked + 1
  end
end

local function finish()
  close_generations()
  if #repeats > 0 then redis.call('HINCRBY', KEYS[6], 'repeats', #repeats) end
end

local function answer(...)
  return { runs, repeats, parked, ... }
end
