-- Read entries without the bytes that a list does not show: those stay in Redis. The reply ends
-- early when the entries looked at were large, so that no page holds Redis up.
--
-- KEYS  1 stream
-- ARGV  1 first ID ('(' before it: the next)  2 last ID  3 count  4 bytes, after which it ends
--       then the names of the fields whose values are left empty
-- Reply {entries, ended}: an entry is {ID, fields}; ended is 1 where there are no more

local left_out = {}
for i = 5, #ARGV do left_out[ARGV[i]] = true end

local entries, bytes, first, ended = {}, 0, ARGV[1], 0
while #entries < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
  local entry = redis.call('XRANGE', KEYS[1], first, ARGV[2], 'COUNT', 1)[1]
  if not entry then
    ended = 1
    break
  end
  local fields = entry[2]
  for i = 1, #fields, 2 do
    bytes = bytes + #fields[i] + #fields[i + 1]
    if left_out[fields[i]] then fields[i + 1] = '' end
  end
  entries[#entries + 1] = entry
  first = '(' .. entry[1]
end
return { entries, ended }
