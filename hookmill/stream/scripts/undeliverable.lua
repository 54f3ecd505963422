-- Makes a dead letter of an entry that no worker receives. A part of takeover.lua.
--
-- Its fields are copied here, so they need not arrive anywhere. They are as a worker would write
-- them (hookmill/message.py: Progress, Death).
--
-- `dead_key` names the dead letters.
-- Needs: taking.lua, `group`, `dead_key` and `now_ms`, set before the include.

--#include changed
--#include reason_counts
local UNDELIVERABLE = 'it was given out %d times, alone, and no worker received it: it may be too '
  .. 'large for the connection, for a limit of Redis, or for the memory of a worker'

-- Make a dead letter of an entry; return {key number, entry ID, message ID, error}.
local function make_dead_letter(which, id, fields, deliveries)
  local places = places_of(fields)
  local _, token, message_id, key = identity_of(fields, places)
  if token == '' then token = id end
  local text = string.format(UNDELIVERABLE, deliveries)
  local letter = changed(fields, {
    'owner', token, 'handler', fields[places.handler] or '',
    'attempts', fields[places.attempts] or '0', 'failed', fields[places.failed] or '0',
    'unknown', fields[places.unknown] or '0', 'reason', 'undeliverable',
    'error', text, 'died', string.format('%.0f', now_ms),
  })
  note_move(token)
  local dead_id = redis.call('XADD', dead_key, '*', unpack(letter))
  note_dead(dead_id, 'undeliverable')
  keep_note(token, now_ms, dead_id, 'undeliverable ' .. text)
  change_head(key, token, -1)
  acknowledge(which, group, id)
  note_finished(1, weight_of(fields))
  return { which, id, message_id, text }
end
