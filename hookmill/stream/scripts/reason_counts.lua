-- Counts a group's dead letters by their reason, in a hash beside their stream. A part of settle.lua,
-- drop.lua, replay.lua, recount_dead.lua, and of takeover.lua (by undeliverable.lua).
-- hookmill/stream/dead_reasons.py tells the protocol.
--
-- Our own reasons always have a field. Handlers give reasons of their own, of which only so many have
-- one. Those beyond are counted in `rest`; while that is in use no reason gets a new field, so the
-- field of a dead letter that leaves is the one in which it was counted.
--
-- `newest` is the last dead letter, up to which all were counted. Where one shows up that a program of
-- an older release has written, it is WRONG until all have been counted again.
-- Needs: `dead_key`, set before the include.

local OWN_REASONS = {}
for reason in string.gmatch('crashed failed given_up internal_error other undecodable undeliverable '
  .. 'unhandled unknown_handler unknown_wire_version', '%S+') do OWN_REASONS[reason] = true end
local MOST_REASON_FIELDS, LONGEST_REASON = 50, 100
local reasons_key, dead_recount_key = dead_key .. ':reasons', dead_key .. ':recount'

local function reason_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'reason' then return fields[i + 1] end
  end
  return ''
end

local function has_room(key)
  return redis.call('HEXISTS', key, 'rest') == 0 and redis.call('HLEN', key) < MOST_REASON_FIELDS
end

-- Count dead letters of a reason in one of the hashes: so many more, or less.
local function count_reason(key, reason, number)
  if reason == '' or #reason > LONGEST_REASON then reason = 'other' end
  local field = '=' .. reason
  local is_known = OWN_REASONS[reason] or redis.call('HEXISTS', key, field) == 1
  if not is_known and not (number > 0 and has_room(key)) then field = 'rest' end
  if redis.call('HINCRBY', key, field, number) == 0 then redis.call('HDEL', key, field) end
end

local WRONG = 'wrong'

local function newest_counted()
  return redis.call('HGET', reasons_key, 'newest') or '0-0'
end

local died = {} -- how many have become dead letters in this script, by reason
local first_died, last_died -- their IDs

local function note_dead(id, reason)
  died[reason] = (died[reason] or 0) + 1
  first_died, last_died = first_died or id, id
end

-- A script that notes some ends with this.
local function keep_dead()
  if not first_died then return end
  for reason, number in pairs(died) do count_reason(reasons_key, reason, number) end
  local newest = newest_counted()
  if newest ~= WRONG then
    local between = redis.call('XRANGE', dead_key, '(' .. newest, '(' .. first_died, 'COUNT', 1)
    redis.call('HSET', reasons_key, 'newest', #between == 0 and last_died or WRONG)
  end
  died, first_died = {}, nil
end
