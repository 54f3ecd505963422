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

-- The entries to be run, as one list of words: key number, entry ID, number of its form, 1 for a
-- suspect, then its values. A form is the names of an entry's fields, and is told once for all that
-- have it, which mostly is every one: names would be half of the words.
local words, count_of_words = {}, 0
local forms, form = {}, nil

local function has(fields, names)
  if #fields ~= 2 * #names then return false end
  for i, name in ipairs(names) do
    if fields[2 * i - 1] ~= name then return false end
  end
  return true
end

-- Make `form` the number of these fields' form.
local function find_form(fields)
  if form and has(fields, forms[form]) then return end
  for number, names in ipairs(forms) do
    form = number
    if has(fields, names) then return end
  end
  local names = {}
  for i = 1, #fields, 2 do names[#names + 1] = fields[i] end
  form = #forms + 1
  forms[form] = names
end

local function run(which, id, fields, suspect)
  find_form(fields)
  local n = count_of_words
  words[n + 1], words[n + 2], words[n + 3], words[n + 4] = which, id, form, suspect or 0
  n = n + 4
  for i = 2, #fields, 2 do
    n = n + 1
    words[n] = fields[i]
  end
  count_of_words = n
end

-- Judge an entry: it is to be run, only repeats an ID that another entry owns, or has to wait for
-- others with its key. `suspect` goes with it. An entry without a digest is of a wire version that
-- has none: it is left to the worker.
local function judge(which, id, fields, suspect)
  local digest, token, message_id, key = names_of(fields)
  if token == '' then token = id end
  if #digest >= 4 and not own(digest, token) then
    -- A head can lose its ID: forgotten after its window, or released with a dead letter.
    move_on(key, token, -1)
    acknowledge(which, group, id)
    repeats[#repeats + 1] = { which, id, message_id }
  elseif may_run(key, token) then
    run(which, id, fields, suspect)
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
  return { words, repeats, parked, forms, ... }
end
