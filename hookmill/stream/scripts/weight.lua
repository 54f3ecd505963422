-- Tells how many bytes the fields of an entry have. A part of takeover.lua.
local function weight_of(fields)
  local bytes = 0
  for _, word in ipairs(fields) do bytes = bytes + #word end
  return bytes
end
