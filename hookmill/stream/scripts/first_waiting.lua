-- Look which entry waits longest for a group, in the streams and in the group's again streams. Nothing
-- is taken, and no entry is sent. All partitions of one server are asked at once.
--
-- KEYS  of each partition: its stream, and the group's again stream
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

local found = {}
for i, key in ipairs(KEYS) do found[i] = first_of(key) end
return found
