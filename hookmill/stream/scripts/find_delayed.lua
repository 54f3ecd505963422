-- Find delayed messages by their message ID. Reading ends early where they are large, so that one
-- step does not hold up Redis.
--
-- KEYS  1 delayed  2 delayed entries
-- ARGV  1 message ID  2 bytes after which it ends  then names in the set of delayed
-- Reply {looked at, entries}: how many of the names were looked at; for each entry that was found
--       {when it is due (Unix ms), fields and values in turn}

local bytes, looked, entries = 0, 0, {}
for i = 3, #ARGV do
  if bytes >= tonumber(ARGV[2]) then break end
  looked = looked + 1
  local packed = redis.call('HGET', KEYS[2], ARGV[i])
  local due = packed and redis.call('ZSCORE', KEYS[1], ARGV[i])
  if due then
    bytes = bytes + #packed
    local fields = cmsgpack.unpack(packed)
    for j = 1, #fields, 2 do
      if fields[j] == 'id' and fields[j + 1] == ARGV[1] then
        entries[#entries + 1] = { due, fields }
        break
      end
    end
  end
end
return { looked, entries }
