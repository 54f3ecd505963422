-- How many bytes an entry has: those of its values, as weight_of() in hookmill/stream/entries.py
-- counts them. A part of oldest_dead.lua, replay.lua, settle.lua, recount.lua, recount_dead.lua, and of take.lua and
-- takeover.lua (by taking.lua).

local function weight_of(fields)
  local bytes = 0
  for i = 2, #fields, 2 do bytes = bytes + #fields[i] end
  return bytes
end
