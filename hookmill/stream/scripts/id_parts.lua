-- Splits an entry ID. A part of trim.lua, and of append.lua and direct_read.lua.

-- Return the milliseconds and the sequence number of an entry ID.
local function parts_of(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
