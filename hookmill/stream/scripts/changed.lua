-- Copies the fields of an entry, with some changed. A part of settle.lua, and of takeover.lua (by
-- undeliverable.lua).

-- Return a copy of an entry's fields with some changed: in their places, or at the end. Both are
-- names and values in turn.
local function changed(fields, changes)
  local copy, places = {}, {}
  for i, word in ipairs(fields) do
    copy[i] = word
    if i % 2 == 1 then places[word] = i + 1 end
  end
  for i = 1, #changes, 2 do
    local place = places[changes[i]] or #copy + 2
    copy[place - 1], copy[place] = changes[i], changes[i + 1]
  end
  return copy
end
