-- Find the entries of a stream that have a value in a field, a page at a time. Headers and bodies are
-- left out of the reply.
--
-- KEYS  1 a stream
-- ARGV  1 first ID ('(' before it: without that one)  2 how many to look at  3 bytes after which it ends
--       4 field  5 value
-- Reply {looked at, last ID, ended, entries}: how many were looked at, and the last of them ('': none);
--       ended is 1 if there are no more; an entry is {ID, fields}

local first, bytes, looked, last, found = ARGV[1], 0, 0, '', {}
local left_out = { headers = true, body = true, v3 = true }

local function look_at(entry)
  local fields, matches = entry[2], false
  for i = 1, #fields, 2 do
    bytes = bytes + #fields[i + 1]
    if fields[i] == ARGV[4] and fields[i + 1] == ARGV[5] then matches = true end
  end
  looked, last = looked + 1, entry[1]
  if not matches then return end
  for i = 1, #fields, 2 do
    if left_out[fields[i]] then fields[i + 1] = '' end
  end
  found[#found + 1] = entry
end

-- Singly: how large an entry is, is known only once it is read.
while looked < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local entry = redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', 1)[1]
  if not entry then return { looked, last, 1, found } end
  look_at(entry)
  first = '(' .. last
end
return { looked, last, 0, found }
