-- Reads what Redis says of a thing as names and values in turn. A part of retire.lua, direct_read.lua and tail.lua, and of other scripts by group_names.lua and left_behind.lua.

local function by_name(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end
