-- Tells how many bytes an entry has: those of its values. A part of takeover.lua.

local function weight_of(fields)
  local bytes = 0
  for i = 2, #fields, 2 do bytes = bytes + #fields[i] end
  return bytes
end
