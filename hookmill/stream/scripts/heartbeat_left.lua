-- Tells how long a heartbeat still counts. A part of heartbeat.lua and heartbeats.lua.
--
-- Needs: `now_ms` (Redis' time), set before the include.

-- Return for how many milliseconds a heartbeat still counts (0 or less: it has expired), and how
-- old it is. `stated` is when it was written (Unix ms by Redis' clock), and for how long it counts
-- (ms). One from further in the future than that has expired, too: Redis' clock was set back, and a
-- worker that lives writes the next one soon.
local function left_of(stated)
  local written, lasts = string.match(stated, '^(%d+) (%d+)$')
  if not written then return 0, 0 end
  local age = now_ms - tonumber(written)
  if age < -tonumber(lasts) then return 0, 0 end
  age = math.max(0, age)
  return tonumber(lasts) - age, age
end
