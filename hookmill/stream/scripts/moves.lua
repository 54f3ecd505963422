-- Notes which messages get a new place in a group while a replay looks at what is unfinished: in the
-- again stream, among the delayed, the parked, the paused or the dead. A part of wake.lua and
-- undeliverable.lua. hookmill/stream/unfinished.py tells the protocol.
--
-- There is a hash only during such a look. Its fields are owner tokens. A move is noted before it is
-- written: where Redis refuses a write in between, the message is left out of the replay.
-- Needs: `again_key`, set before the include.

local moves_key = again_key .. ':moves'
local is_looked_at -- whether a replay looks; nil: not known yet

local function note_move(token)
  if is_looked_at == nil then is_looked_at = redis.call('EXISTS', moves_key) == 1 end
  if is_looked_at then redis.call('HSET', moves_key, token, '') end
end

local function note_move_of(fields)
  if is_looked_at == false then return end
  for i = 1, #fields, 2 do
    if fields[i] == 'owner' then return note_move(fields[i + 1]) end
  end
end
