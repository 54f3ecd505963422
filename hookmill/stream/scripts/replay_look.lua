-- Read the owner tokens of what a group has unfinished, a step at a time: of dead letters, of what it
-- takes again, or of what is parked or paused. Bodies stay in Redis.
--
-- A list loses entries only at its front, and gets new ones only at its end. So it is read from its
-- end, by places counted from there: what was there when it began is not passed over.
--
-- KEYS  1 again  2 counts  3 stream, or list
-- ARGV  1 name of the run  2 for how long moves are noted without a further step (s)
--       3 'stream', 'parked', 'paused', or 'end': moves are no longer noted  4 where it goes on ('': it begins)  5 how many at most
--       6 bytes after which it ends  7 the only owner token that is asked for ('': all)
-- Reply {tokens, next}: where the next step goes on, '' where that was all; false where another run
--       has the right, or the time is over

local again_key = KEYS[1]
--#include replay_right

local moves_key = again_key .. ':moves'
if redis.call('HGET', moves_key, '') ~= ARGV[1] or not has_right(KEYS[2], ARGV[1]) then return false end
redis.call('EXPIRE', moves_key, ARGV[2])
if ARGV[3] == 'end' then
  redis.call('UNLINK', moves_key) -- it may have many fields
  return { {}, '' }
end

local kind, position, count, budget = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local wanted = ARGV[7]
local tokens, bytes = {}, 0

local function note(token)
  if wanted == '' or token == wanted then tokens[#tokens + 1] = token end
end

local function take_in(fields)
  for i = 1, #fields, 2 do
    bytes = bytes + #fields[i] + #fields[i + 1]
    if fields[i] == 'owner' then note(fields[i + 1]) end
  end
end

local function read_stream()
  local first, read = position == '' and '-' or '(' .. position, 0
  while read < count and bytes < budget do
    local entry = redis.call('XRANGE', KEYS[3], first, '+', 'COUNT', 1)[1]
    if not entry then return '' end
    take_in(entry[2])
    position, read = entry[1], read + 1
    first = '(' .. position
  end
  return position
end

local function take_in_packed(packed)
  bytes = bytes + #packed
  if kind == 'parked' then -- an array of the token and the fields: the token stands in front
    local _, token = cmsgpack.unpack_limit(packed, 1, 1)
    note(token)
  else
    take_in(cmsgpack.unpack(packed))
  end
end

-- Several are read at once, as far as the bytes allow: Redis goes through the list to a place in it.
local function read_list()
  local place, read, at_once = tonumber(position == '' and -1 or position), 0, 1
  while read < count and bytes < budget do
    local found = redis.call('LRANGE', KEYS[3], place - at_once + 1, place)
    for _, packed in ipairs(found) do take_in_packed(packed) end
    if #found < at_once then return '' end
    place, read = place - at_once, read + at_once
    at_once = math.max(1, math.min(count - read, math.floor((budget - bytes) / bytes * read / 2)))
  end
  return string.format('%.0f', place)
end

local next_position
if kind == 'stream' then next_position = read_stream() else next_position = read_list() end
return { tokens, next_position }
