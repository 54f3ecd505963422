-- Read what a group's history has of a message, a page at a time (history.lua tells what it keeps).
--
-- KEYS  1 history
-- ARGV  1 name of the list: a chunk, or an owner token  2 position of the first item
--       3 text that an item must have ('': any)  4 bytes after which it ends
-- Reply {next, items}: the position with which to go on (-1: all were read); the items that match

local key, at, bytes, found = KEYS[1] .. ':' .. ARGV[1], tonumber(ARGV[2]), 0, {}
local STEP = 16

while bytes < tonumber(ARGV[4]) do
  local items = redis.call('LRANGE', key, at, at + STEP - 1)
  for _, item in ipairs(items) do
    bytes = bytes + #item
    if string.find(item, ARGV[3], 1, true) then found[#found + 1] = item end
  end
  at = at + #items
  if #items < STEP then return { -1, found } end
end
return { at, found }
