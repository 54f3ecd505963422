-- Keeps a group's history: what became of each attempt. A part of settle.lua, and of the scripts that
-- take (by taking.lua). hookmill/stream/attempts.py packs and reads what is kept.
--
-- Most attempts succeed; those of a settlement are one batch for each chunk of time. The time is that
-- of the owner tokens, so that they are found by these: `history_key`:CHUNK is a list of batches. What
-- is written singly (failures, notes) is in a list for each message, `history_key`:TOKEN. So a message
-- that fails for days keeps its errors, however many others succeed meanwhile.
--
-- `history_key`:chunks has the batches in the order in which they came, each as 'CHUNK COUNT BYTES', and
-- `history_key`:singles the owner tokens in the order in which their lists were made. What came first
-- goes first, where there is more than the bounds allow. A script drops only a
-- little more than it adds, so a bound may be passed for a while where many small batches make room
-- for large ones. Where errors do not get room in time, only their ends are kept.
--
-- `history_key` is a hash: `messages` (attempts in batches), `packed` and `single` (bytes), and the
-- bounds by which the last worker went: `most` (messages) and `room` (bytes; half for each kind).
--
-- Redis hashes each byte of a string that a script makes. So batches come as one argument, and are dropped
-- unread.
--
-- Nothing depends on a history. So an error in here does not fail the script.
-- Needs: `history_key`, set before the include.

local HISTORY_DAYS, HISTORY_TTL = 7, 14 * 86400
local CHUNK_MS, KEY_BYTES, MOST_SINGLES, SHORT_ERROR = 2048, 200, 100, 1000
local SLACK = 1 / 32 -- of a bound that is reached, so much is dropped at once
local AT_ONCE_DROPPED = 256 -- and twice what is added: after smaller bounds there may be many
local batches, singles, repeats = {}, {}, {}

-- Keep a batch of `count` attempts. Its first byte says whether some of their outcomes came too late.
local function keep_batch(chunk, count, item, some_late)
  if some_late then item = '\1' .. string.sub(item, 2) end
  batches[#batches + 1] = { chunk, count, item }
end

-- Return a batch with other owner tokens at some positions (1 for the first).
local function with_owners(item, owners)
  local _, count, size, at = struct.unpack('>BHI4', item)
  local words = { string.sub(item, 1, at + size - 1) }
  for word in string.gmatch(string.sub(item, at + size), '%S+') do words[#words + 1] = word end
  for position = 1, count do words[position + 1] = owners[position] or words[position + 1] end
  return table.concat(words, ' ') .. ' '
end

-- Keep what is written singly. `state` is 0, 1 where it came too late, 2 for a note of a script.
local function keep_single(token, state, written_ms, dead_id, head, err)
  local before = struct.pack('>BI6BH', state, written_ms, #dead_id, #head) .. dead_id .. head
  singles[#singles + 1] = { token, before, err }
end

local function keep_note(token, written_ms, dead_id, text)
  keep_single(token, 2, written_ms, dead_id, string.sub(text, 1, 2000), '')
end

-- Keep that a duplicate of a message was dropped, unless much is kept of the message already: repeats
-- must not take the place of its failures.
local function keep_duplicate(owner, token, written_ms)
  local most = MOST_SINGLES / 2 - (repeats[owner] or 0)
  if most <= 0 or redis.call('LINDEX', history_key .. ':' .. owner, most) then return end
  repeats[owner] = (repeats[owner] or 0) + 1
  keep_note(owner, written_ms, '', 'duplicate ' .. token)
end

-- Append an item to its list; return by how many bytes the history grows, and the list's length.
local function append_item(name, item)
  local key = history_key .. ':' .. name
  local length = redis.call('RPUSH', key, item)
  if length > 1 then return #item, length end
  redis.call('EXPIRE', key, HISTORY_TTL)
  return #item + KEY_BYTES, length
end

-- Return whether the oldest batch is of an earlier chunk; only asked where a chunk was begun.
local function is_older(order_key, chunk)
  local oldest = chunk and redis.call('LINDEX', order_key, 0)
  return oldest and tonumber(string.match(oldest, '^%d+')) < chunk
end

-- Append the batches; return how many attempts and bytes they are, and the newest chunk that was begun.
local function add_batches(order_key)
  local added, bytes, newest = 0, 0, nil
  for _, batch in ipairs(batches) do
    local chunk, count, item = unpack(batch)
    local more, length = append_item(chunk, item)
    redis.call('RPUSH', order_key, chunk .. ' ' .. count .. ' ' .. more)
    added, bytes = added + count, bytes + more
    if length == 1 then newest = math.max(newest or 0, tonumber(chunk)) end
  end
  if newest then redis.call('EXPIRE', order_key, HISTORY_TTL + 86400) end
  return added, bytes, newest
end

-- Drop the oldest batches, until there is some slack below the bounds; return what is left of messages
-- and bytes. At most about `steps` are dropped; `usual` is how many attempts a batch has.
local function drop_batches(order_key, messages, bytes, fewer, less, oldest, steps, usual)
  local trims = {}
  while steps > 0 and (messages > fewer or bytes > less or is_older(order_key, oldest)) do
    local number = math.max(1, math.min(32, steps, math.floor((messages - fewer) / usual)))
    local noted = redis.call('LPOP', order_key, number)
    if not noted or #noted == 0 then
      messages, bytes = 0, 0 -- all is dropped, whatever was counted
      break
    end
    for _, one in ipairs(noted) do
      local chunk, count, size = string.match(one, '^(%d+) (%d+) (%d+)$')
      messages, bytes, steps = messages - count, bytes - size, steps - 1
      trims[chunk] = (trims[chunk] or 0) + 1
    end
  end
  for chunk, number in pairs(trims) do redis.call('LTRIM', history_key .. ':' .. chunk, number, -1) end
  return messages, bytes
end

local function write_bounds(most, room)
  redis.call('HSET', history_key, 'most', most, 'room', room)
  redis.call('EXPIRE', history_key, HISTORY_TTL + 86400)
end

local function write_batches(most, room)
  local order_key = history_key .. ':chunks'
  local added, more, newest = add_batches(order_key)
  local had = redis.call('HINCRBY', history_key, 'messages', added)
  local bytes = redis.call('HINCRBY', history_key, 'packed', more)
  if newest then write_bounds(most, room) end
  local oldest = newest and newest - HISTORY_DAYS * 86400000 / CHUNK_MS
  if had <= most and bytes <= room / 2 and not is_older(order_key, oldest) then return end
  local usual, steps = math.ceil(added / #batches), 16 * #batches + added / 4
  local messages, left = drop_batches(order_key, had, bytes, most * (1 - SLACK),
    room / 2 * (1 - SLACK), oldest, steps, usual)
  redis.call('HSET', history_key, 'messages', messages, 'packed', left)
end

-- Drop the oldest item of those that are written singly; return its bytes. nil: there is none.
local function drop_oldest_single(order_key)
  local name = redis.call('LINDEX', order_key, 0)
  if not name then return nil end
  local item = redis.call('LPOP', history_key .. ':' .. name)
  if item then return #item end
  redis.call('LPOP', order_key)
  return KEY_BYTES
end

local function write_singles(most, room)
  local order_key, adds = history_key .. ':singles', 0
  local bytes = tonumber(redis.call('HGET', history_key, 'single') or 0)
  for _, one in ipairs(singles) do adds = adds + #one[2] + #one[3] + KEY_BYTES end
  local steps = math.min(32 * #singles, AT_ONCE_DROPPED + 2 * #singles)
  while bytes + adds > room / 2 and steps > 0 do
    local less = drop_oldest_single(order_key)
    bytes, steps = less and bytes - less or 0, less and steps - 1 or 0
  end
  local has_room = bytes + adds <= room / 2 * 1.25
  for _, one in ipairs(singles) do
    local token, before, err = unpack(one)
    local item = before .. (has_room and err or string.sub(err, -SHORT_ERROR))
    local more, length = append_item(token, item)
    bytes = bytes + more
    if length == 1 then redis.call('RPUSH', order_key, token) end
    if length > MOST_SINGLES then
      bytes = bytes - #redis.call('LPOP', history_key .. ':' .. token)
    elseif length > 1 then
      redis.call('EXPIRE', history_key .. ':' .. token, HISTORY_TTL)
    end
  end
  redis.call('EXPIRE', order_key, HISTORY_TTL + 86400)
  redis.call('HSET', history_key, 'single', bytes)
  write_bounds(most, room)
end

-- Write what was kept. Without bounds, those count by which the last worker went.
local function write_history(most, room)
  if not most then
    local found = redis.call('HMGET', history_key, 'most', 'room')
    most, room = tonumber(found[1] or 0), tonumber(found[2] or 0)
    if most == 0 then return end
  end
  if #batches > 0 then write_batches(most, room) end
  if #singles > 0 then write_singles(most, room) end
end

local function keep_history(most, room)
  if #batches > 0 or #singles > 0 then pcall(write_history, most, room) end
end
