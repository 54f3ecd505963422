-- Look which entry waits longest for a group, in the stream and in the group's again stream. Nothing
-- is taken, and no entry is sent.
--
-- KEYS  1 stream  2 again
-- ARGV  1 group
-- Reply for each of the streams: the ID of the first entry that the group was not given yet; '' if
--       there is none, also where the group is not there

--#include by_name

local function first_of(key)
  if redis.call('XLEN', key) == 0 then return '' end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local info = by_name(flat)
    if info['name'] == ARGV[1] then
      if info['lag'] == 0 then return '' end
      local first = redis.call('XRANGE', key, '(' .. info['last-delivered-id'], '+', 'COUNT', 1)[1]
      return first and first[1] or ''
    end
  end
  return ''
end

return { first_of(KEYS[1]), first_of(KEYS[2]) }
