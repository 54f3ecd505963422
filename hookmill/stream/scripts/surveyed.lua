-- Reads entries without the values of some fields, such as headers and body, which a list does not
-- show. A part of survey.lua and survey_newest.lua. Reading ends early where entries are large, so
-- that one page does not hold up Redis.
--
-- KEYS  1 stream
-- ARGV  1 first ID  2 last ID ('(' before one of them: without that one)  3 count  4 bytes after
--       which it ends  then the names of the fields whose values are left empty; of `v3` what is
--       not listed
-- Reply {entries, ended}: an entry is {ID, fields}; ended is 1 if there are no more entries
-- Needs: next_entry(first, last), and narrowed(first, last, id), which returns the rest of a range.

local left_out = {}
for i = 5, #ARGV do left_out[ARGV[i]] = true end

-- In wire version 3 one field is an array of what is listed (source, type, time) and what is not
-- (headers, body). Return an array of the first three, which stand behind its first byte.
local function listed_of(packed)
  local ok, last = pcall(cmsgpack.unpack_limit, packed, 3, 1)
  if not ok or last < 0 then return '' end
  return string.char(0x93) .. string.sub(packed, 2, last)
end

local first, last = ARGV[1], ARGV[2]
local entries, bytes, ended = {}, 0, 0
while #entries < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
  local entry = next_entry(first, last)
  if not entry then
    ended = 1
    break
  end
  local fields = entry[2]
  for i = 1, #fields, 2 do
    bytes = bytes + #fields[i] + #fields[i + 1]
    if left_out[fields[i]] then
      fields[i + 1] = fields[i] == 'v3' and listed_of(fields[i + 1]) or ''
    end
  end
  entries[#entries + 1] = entry
  first, last = narrowed(first, last, entry[1])
end
return { entries, ended }
