-- What becomes of entries that were read. A part of the scripts that take, put before their text.
--
-- KEYS  1 stream  2 again  3 owners  4 busy  5 parked  6 counts
-- Needs: `group`, `window` (seconds), `now_ms`.

local owners_key, now = KEYS[3], math.floor(now_ms / 1000)
local again_key, busy_key, parked_key = KEYS[2], KEYS[4], KEYS[5]
--#include acknowledge
--#include owners
--#include order
local entries, repeats, parked = {}, {}, 0

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
    entries[#entries + 1] = { which, id, fields, suspect }
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
