-- Find a message among those that a pause holds back, a page at a time (held_back.lua).
--
-- KEYS  1 paused
-- ARGV  1 the pause's name  2 owner token  3 position of the first one to look at  4 how many to look
--       at  5 bytes after which it ends
-- Reply {next, handlers}: the position with which to go on (-1: all were looked at); for each entry that
--       was found the name of its handler ('': none is known)

local list, at, left, bytes, STEP = KEYS[1] .. ':' .. ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), 0, 8
local handlers = {}

local function look_at(fields)
  local owner, handler = '', ''
  for i = 1, #fields, 2 do
    if fields[i] == 'owner' then owner = fields[i + 1] end
    if fields[i] == 'handler' then handler = fields[i + 1] end
  end
  if owner == ARGV[2] then handlers[#handlers + 1] = handler end
end

while left > 0 and bytes < tonumber(ARGV[5]) do
  local items = redis.call('LRANGE', list, at, at + STEP - 1)
  for _, item in ipairs(items) do
    bytes = bytes + #item
    look_at(cmsgpack.unpack(item))
  end
  at, left = at + #items, left - STEP
  if #items < STEP then return { -1, handlers } end
end
return { at, handlers }
