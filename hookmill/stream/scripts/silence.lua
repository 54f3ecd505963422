-- Says from whom entries may be taken over. A part of watch.lua and takeover.lua.
--
-- The rule: a holder is silent where its lease number has stood still for one lease, watched by the
-- clock of whoever looked (hookmill/stream/looks.py). Nothing else counts: no failed command, no
-- step of Redis' clock, no uptime of Redis. A holder that lives raises its number every third of a
-- lease (renew.lua).
--
-- A holder without a number is of release 0.1, or has not renewed yet. Its entries have to be idle
-- for one lease as well. Idle times are by Redis' clock, so an outage counts as idle, too. Therefore
-- such a holder is silent only if somebody has looked recently.
--
-- `watched_key` names a hash: for each holder 'AGE BORN NUMBER', for how many ms its number has
-- stood still, the look that has seen this number first, and the number ('' if it has none); and
-- under '' the last look, 'LOOK NOW_MS'.
-- `numbers_key` names the hash of the lease numbers.
-- Needs: `watched_key`, `numbers_key`, `lease` (ms) and `now_ms` (Redis' time), set before the
-- include.

-- Return for how many ms at least an entry of this holder must have been idle to be taken over: 0
-- where that does not matter, nil where nothing may be taken over from it. `note` is its text in
-- the hash.
local function least_idle_of(holder, note)
  local age, number = string.match(note, '^(%d+) %d+ (.*)$')
  if not age or tonumber(age) < lease then return nil end
  -- It may have renewed since somebody looked.
  if number ~= (redis.call('HGET', numbers_key, holder) or '') then return nil end
  if number ~= '' then return 0 end
  local looked = string.match(redis.call('HGET', watched_key, '') or '', ' (%d+)$')
  local since = math.abs(now_ms - tonumber(looked or 0))
  return since <= math.max(lease / 2, 1000) and lease or nil
end
