-- Acknowledge an entry; return how many were (0 or 1). A part of the scripts that settle.
--
-- The stream (key 1) belongs to every group and is trimmed behind the slowest. The again stream
-- (key 2) is this group's own, so its entry goes at once: what lies there is unfinished.
local function acknowledge(which, group, id)
  local done = redis.call('XACK', KEYS[which], group, id)
  if which == 2 and done == 1 then redis.call('XDEL', KEYS[2], id) end
  return done
end
