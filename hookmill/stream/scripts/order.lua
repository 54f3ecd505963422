-- Messages with the same ordering key run one after another. A part of take.lua, takeover.lua and
-- direct_read.lua (by taking.lua), settle.lua, replay.lua and replay_handled.lua.
--
-- The first message with a key is its head until all handlers have finished it. Messages that come
-- meanwhile are parked, oldest first. When the head is finished, the oldest parked one is the next
-- head. Nothing of this expires.
--
-- `busy_key` names a hash: for each ordering key its head, as 'COUNT TOKEN'. TOKEN is the head's
-- owner token. COUNT is how many entries the head has: pending, delayed, or in the again stream.
-- It has several where several handlers match. All that changes COUNT:
--
--   set to 1  may_run      an entry is taken whose key has no head: it becomes the head
--   set to 1  change_head  the count came to 0, and the oldest parked entry becomes the head
--   n - 1     settle.lua   an entry of the head is settled, and n entries take its place: 0 where
--                          it is done, dead or set aside, 1 for a retry, one for each handler that
--                          matches
--   - 1       taking.lua   an entry of the head is a duplicate: it no longer owns its ID
--   - 1       forget_heads somebody deleted the entry of a head
--   + 1       rejoin       a dead letter of the head's message is replayed, or a message whose key
--                          has no head: it becomes the head
--
-- An entry that is set aside, because no handler knows its event type, is not in the line. When it
-- is taken again, it is treated as one that comes new: it is parked behind the others, if any.
--
-- A key whose count comes to 0 with nothing parked leaves the hash. An entry that is not of the
-- head changes nothing, nor does one that another worker has taken over.
--
-- `parked_key` names a counter of all parked entries, and with ':' and a key behind it the list of
-- the entries that are parked for that key.
-- Needs: `busy_key`, `parked_key` and `again_key`, set before the include; what wake.lua needs.

--#include wake

-- Return the owner token of a key's head (nil: it has none), and its count of entries.
local function head_of(key)
  local head = redis.call('HGET', busy_key, key)
  if not head then return nil, 0 end
  local count, token = string.match(head, '^(%d+) (.*)$')
  return token, tonumber(count)
end

-- Return whether an entry may run: it is of the head, it becomes the head, or it has no key.
local function may_run(key, token)
  if key == '' then return true end
  local head = head_of(key)
  if not head then redis.call('HSET', busy_key, key, '1 ' .. token) end
  return not head or head == token
end

-- Keep an entry's fields until it is its turn. Its owner token goes into the fields, because it
-- will be another entry in the again stream, with another ID. Return by how many bytes it grows.
local function park(key, token, fields)
  note_move(token)
  local kept, has_owner = {}, false
  for i, word in ipairs(fields) do
    kept[i] = word
    if i % 2 == 1 and word == 'owner' then has_owner = true end
  end
  if not has_owner then
    kept[#kept + 1] = 'owner'
    kept[#kept + 1] = token
  end
  redis.call('RPUSH', parked_key .. ':' .. key, cmsgpack.pack({ token, kept }))
  redis.call('INCR', parked_key)
  return has_owner and 0 or #token
end

-- Add `change` to the count of a key's head, if `token` is the head. With 0 left, the next one is
-- the head. The order of the writes matters: where Redis refuses one of them, the head is still
-- the old one, and its entry is settled once more.
local function change_head(key, token, change)
  if key == '' or change == 0 then return end
  local head, count = head_of(key)
  if head ~= token then return end
  if count + change > 0 then
    redis.call('HSET', busy_key, key, count + change .. ' ' .. token)
    return
  end
  local list = parked_key .. ':' .. key
  local packed = redis.call('LINDEX', list, 0)
  if not packed then
    redis.call('HDEL', busy_key, key)
    return
  end
  local next_token, fields = unpack(cmsgpack.unpack(packed))
  add_again(fields)
  redis.call('HSET', busy_key, key, '1 ' .. next_token)
  redis.call('LPOP', list)
  redis.call('DECR', parked_key)
end

-- Give a replayed message its place. It is taken again at once where its message is the head,
-- or where the key has no head; otherwise it is parked last.
local function rejoin(key, token, fields)
  local head, count = head_of(key)
  if head and head ~= token then return park(key, token, fields) end
  add_again(fields)
  redis.call('HSET', busy_key, key, count + 1 .. ' ' .. token)
end

-- Note that somebody deleted these entries, so that nobody will settle them. Otherwise a key whose
-- head is one of them would wait for ever.
local function forget_heads(ids)
  local is_gone = {}
  for _, id in ipairs(ids) do is_gone[id] = true end
  local heads = redis.call('HGETALL', busy_key)
  for i = 1, #heads, 2 do
    local token = string.match(heads[i + 1], '^%d+ (.*)$')
    if is_gone[token] then change_head(heads[i], token, -1) end
  end
end
