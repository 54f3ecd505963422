-- Writes the index of a stream: the IDs, digests and ordering keys of its entries, without their
-- bodies. A part of append.lua.
--
-- Redis copies each entry that a script reads, with its body. So a worker reads bodies without a
-- script, and the script that decides about them (direct_read.lua) reads the index.
--
-- The index is a stream. An append writes one record there for all messages of its batch that have the
-- same millisecond in their IDs, so these follow one another. The record has the ID of the last of them.
-- Its fields: `d`, the digests one after another, 16 bytes each; `k`, only where one of them has an
-- ordering key or a window: their keys, packed; `w`, only where one of them has a dedup window of its
-- own: their windows, packed. '' stands for none. A record may be missing: then direct_read.lua reads the entries from
-- the stream itself.

--#include id_parts

local DIGEST = 16 -- bytes
local LEAST = 4 -- so many messages are worth a record
local MOST_SEQ = 4294967295 -- an owner token has 4 bytes for it (owners.lua)

local digests, keys, windows = {}, {}, {} -- of the messages that were appended, one after another

-- Return where the ordering key and its source are among a message's fields, nil if it has no key; and
-- where its dedup window is, nil if it has none of its own.
local function places_of_key(fields)
  local places = {}
  for i = 1, #fields, 2 do places[fields[i]] = i + 1 end
  return places.key and places, places.window
end

local function key_of(fields, places)
  local key = fields[places.key]
  return key ~= '' and (fields[places.source] or '') .. ':' .. key or ''
end

-- Call `add` for each row of IDs of one millisecond: with the last ID, and the numbers of the first and
-- the last message. Redis numbers the messages of a millisecond from 0.
local function for_each_row(ids, add)
  local first, n, last = 1, 0, nil
  for _, id in ipairs(ids) do
    if id ~= '' then -- else it was left out
      local minus, zero = string.byte(id, -2, -1)
      if n > 0 and minus == 45 and zero == 48 then
        add(last, first, n)
        first = n + 1
      end
      n, last = n + 1, id
    end
  end
  add(last, first, n)
end

local function packed_part(values, first, last)
  local some = {}
  for i = first, last do some[i - first + 1] = values[i] or '' end
  return cmsgpack.pack(some)
end

local function add_record(index_key, id, first, last)
  local words = { 'd', table.concat(digests, '', first, last) }
  local _, seq = parts_of(id)
  if seq > MOST_SEQ or #words[2] ~= (last - first + 1) * DIGEST then return end
  if next(keys) or next(windows) then words[3], words[4] = 'k', packed_part(keys, first, last) end
  if next(windows) then words[5], words[6] = 'w', packed_part(windows, first, last) end
  if redis.pcall('XADD', index_key, id, unpack(words)).err then
    -- It is of a stream that somebody deleted, so that its last ID may be greater.
    redis.call('DEL', index_key)
    redis.pcall('XADD', index_key, id, unpack(words))
  end
end

-- Write the records of a batch. An error does not matter: nothing depends on a record.
local function keep_index(index_key, ids)
  if #digests < LEAST then return end
  for_each_row(ids, function(id, first, last) add_record(index_key, id, first, last) end)
end
