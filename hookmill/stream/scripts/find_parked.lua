-- Find a message among those that are parked for an ordering key, a page at a time (order.lua).
--
-- KEYS  1 busy  2 parked
-- ARGV  1 ordering key with its source  2 owner token  3 position of the first one to look at
--       4 how many to look at  5 bytes after which it ends
-- Reply {head, next, position, length}: the owner token of the key's head ('': it has none); the
--       position with which to go on (-1: all were looked at); the position of the message (-1: not
--       found in this page); how many are parked for the key

local head = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+ (.*)$') or ''
local list = KEYS[2] .. ':' .. ARGV[1]
local at, left, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), 0
local length, STEP = redis.call('LLEN', list), 8
while left > 0 and bytes < tonumber(ARGV[5]) do
  local items = redis.call('LRANGE', list, at, at + STEP - 1)
  for i, item in ipairs(items) do
    bytes = bytes + #item
    if cmsgpack.unpack(item)[1] == ARGV[2] then return { head, -1, at + i - 1, length } end
  end
  at, left = at + #items, left - STEP
  if #items < STEP then return { head, -1, -1, length } end
end
return { head, at, -1, length }
