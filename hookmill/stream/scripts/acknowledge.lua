-- Acknowledge entries; return how many were. A part of the scripts that settle.
--
-- The stream (key 1) belongs to every group and is trimmed behind the slowest. The again stream
-- (key 2) is this group's own, so its entries go at once: what lies there is unfinished.
local function acknowledge(which, group, ...)
  local done = redis.call('XACK', KEYS[which], group, ...)
  if which == 2 then redis.call('XDEL', KEYS[2], ...) end
  return done
end
