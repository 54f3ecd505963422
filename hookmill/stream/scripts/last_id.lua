-- Says which entry of a stream is the last. A part of recount.lua and newest.lua.

-- Return its ID, or '0-0' if there is none.
local function last_id(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return found and found[1] or '0-0'
end
