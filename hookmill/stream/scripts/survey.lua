-- Read entries without the values of some fields, such as headers and body, which a list does not
-- show. Reading ends early where entries are large, so that one page does not hold up Redis.
--
-- KEYS  1 stream
-- ARGV  1 first ID ('(' before it: without that one)  2 last ID  3 count  4 bytes after which it
--       ends then the names of the fields whose values are left empty
-- Reply {entries, ended}: an entry is {ID, fields}; ended is 1 if there are no more entries

local left_out = {}
for i = 5, #ARGV do left_out[ARGV[i]] = true end

-- In wire version 3 one field is an array of what is listed (source, type, time) and what is not
-- (headers, body). Return an array of the first three, which stand behind its first byte.
local function listed_of(packed)
  local ok, last = pcall(cmsgpack.unpack_limit, packed, 3, 1)
  if not ok or last < 0 then return '' end
  return string.char(0x93) .. string.sub(packed, 2, last)
end

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
    if left_out[fields[i]] then
      fields[i + 1] = ''
    elseif fields[i] == 'v3' then
      fields[i + 1] = listed_of(fields[i + 1])
    end
  end
  entries[#entries + 1] = entry
  first = '(' .. entry[1]
end
return { entries, ended }
