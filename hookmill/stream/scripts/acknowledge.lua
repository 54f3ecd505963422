-- Acknowledge entries; return how many were pending. A part of the scripts that take and settle.
--
-- Needs: KEYS 1 stream  2 again. `which` is the number of the key where the entries are.
--
-- All groups share the stream, so its entries stay until every group has finished them and
-- trim.lua drops them. The again stream is this group's own, so its entries are deleted at once:
-- all that is there is unfinished.
local function acknowledge(which, group, ...)
  local done = redis.call('XACK', KEYS[which], group, ...)
  if which == 2 then redis.call('XDEL', KEYS[2], ...) end
  return done
end
