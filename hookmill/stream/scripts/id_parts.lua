-- Splits an entry ID. A part of trim.lua, append.lua and direct_read.lua, and of drop.lua and
-- replay.lua (by reasons_gone.lua).

-- Return the milliseconds and the sequence number of an entry ID.
local function parts_of(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
