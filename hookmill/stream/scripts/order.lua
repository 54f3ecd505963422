-- Whose turn it is among messages with the same key. A part of the scripts that take, settle and
-- replay.
--
-- A key belongs to its head, one message, for as long as that is unfinished: in hand, delayed, to
-- be taken again, or all of that where several handlers match. The hash 'busy' has for each key how
-- many entries its head has, and its owner token. What follows is parked, oldest first, in a list
-- of the key's own; beside the lists stands how many are parked in all. Nothing here expires.
-- Needs: `busy_key`, `parked_key` and `again_key`.

local function head_of(key)
  local head = redis.call('HGET', busy_key, key)
  if not head then return nil, 0 end
  local count, token = string.match(head, '^(%d+) (.*)$')
  return token, tonumber(count)
end

-- Return whether an entry may be run: it is of its key's head, or becomes it.
local function may_run(key, token)
  if key == '' then return true end
  local head = head_of(key)
  if not head then redis.call('HSET', busy_key, key, '1 ' .. token) end
  return not head or head == token
end

-- Keep an entry's fields until it is its turn. The owner token is its own from here on.
local function park(key, token, fields)
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
end

-- Note that the head of a key has `change` entries more; with none left it is the next one's turn.
-- What is refused by Redis halfway leaves the head as it was: its entry is settled once more.
local function move_on(key, token, change)
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
  redis.call('XADD', again_key, '*', unpack(fields))
  redis.call('HSET', busy_key, key, '1 ' .. next_token)
  redis.call('LPOP', list)
  redis.call('DECR', parked_key)
end

-- Let what was dead take its place anew: beside its key's head if it is of the same message, at the
-- head of a key that nobody has, else at the tail. The head must know how many entries it has.
local function rejoin(key, token, fields)
  local head, count = head_of(key)
  if head and head ~= token then return park(key, token, fields) end
  redis.call('XADD', again_key, '*', unpack(fields))
  redis.call('HSET', busy_key, key, count + 1 .. ' ' .. token)
end

-- Note that entries are gone from the stream although nobody settled them: somebody deleted them,
-- and a key whose head came in one of them would wait for it for ever.
local function forget_heads(ids)
  local is_gone = {}
  for _, id in ipairs(ids) do is_gone[id] = true end
  local heads = redis.call('HGETALL', busy_key)
  for i = 1, #heads, 2 do
    local token = string.match(heads[i + 1], '^%d+ (.*)$')
    if is_gone[token] then move_on(heads[i], token, -1) end
  end
end
