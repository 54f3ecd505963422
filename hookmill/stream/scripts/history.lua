-- Keeps a group's history: what became of each attempt. A part of settle.lua, and of the scripts that
-- take (by taking.lua). hookmill/stream/attempts.py packs and reads what is kept.
--
-- Most attempts succeed; those of a settlement are one batch for each chunk of time. The time is that
-- of the owner tokens, so that they are found by these: `history_key`:CHUNK is a list of batches. What
-- is written singly (failures, notes) is in a list for each message, `history_key`:TOKEN. So a message
-- that fails for days keeps its errors, however many others succeed meanwhile.
--
-- `history_key`:chunks and `history_key`:singles name these lists in the order in which they were made.
-- What was made first goes first, where there is more than the bounds allow. A script drops only a
-- little more than it adds, so a bound may be passed for a while where many small batches make room
-- for large ones. Where errors do not get room in time, only their ends are kept.
--
-- `history_key` is a hash: `messages` (attempts in batches), `packed` and `single` (bytes), and the
-- bounds by which the last worker went: `most` (messages) and `room` (bytes; half for each kind).
--
-- Nothing depends on a history. So an error in here does not fail the script.
-- Needs: `history_key`, set before the include.

local HISTORY_DAYS, HISTORY_TTL = 7, 14 * 86400
local CHUNK_MS, KEY_BYTES, MOST_SINGLES, SHORT_ERROR = 2048, 200, 100, 1000
local batches, singles = {}, {}

-- Keep a batch of `count` attempts. `owners` are their owner tokens with spaces in between.
local function keep_batch(chunk, count, head, owners, some_late)
  local before = struct.pack('>BHI4', some_late and 1 or 0, count, #head)
  batches[#batches + 1] = { chunk, count, before .. head .. ' ' .. owners .. ' ' }
end

-- Keep what is written singly. `state` is 0, 1 where it came too late, 2 for a note of a script.
local function keep_single(token, state, written_ms, dead_id, head, err)
  local before = struct.pack('>BI6BH', state, written_ms, #dead_id, #head) .. dead_id .. head
  singles[#singles + 1] = { token, before, err }
end

local function keep_note(token, written_ms, dead_id, text)
  keep_single(token, 2, written_ms, dead_id, string.sub(text, 1, 2000), '')
end

-- Drop the oldest item of a kind; return its bytes and how many attempts it has. nil: there is none.
local function drop_oldest(order_key, has_counts)
  local name = redis.call('LINDEX', order_key, 0)
  if not name then return nil end
  local item = redis.call('LPOP', history_key .. ':' .. name)
  if not item then
    redis.call('LPOP', order_key)
    return KEY_BYTES, 0
  end
  local count = 0
  if has_counts then _, count = struct.unpack('>BH', item) end
  return #item, count
end

-- Append an item to its list; return by how many bytes the history grows, and the list's length.
local function append_item(order_key, name, item)
  local key = history_key .. ':' .. name
  local length = redis.call('RPUSH', key, item)
  if length > 1 then return #item, length end
  redis.call('RPUSH', order_key, name)
  redis.call('EXPIRE', order_key, HISTORY_TTL + 86400)
  redis.call('EXPIRE', key, HISTORY_TTL)
  return #item + KEY_BYTES, length
end

-- Return whether the oldest list of batches is older than that; only asked where a list was made.
local function is_older(order_key, chunk)
  local oldest = chunk and redis.call('LINDEX', order_key, 0)
  return oldest and tonumber(oldest) < chunk
end

local function write_batches(most, room, messages, bytes)
  local order_key, steps, newest = history_key .. ':chunks', 0, nil
  for _, batch in ipairs(batches) do
    local chunk, count, item = unpack(batch)
    local more, length = append_item(order_key, chunk, item)
    messages, bytes, steps = messages + count, bytes + more, steps + 16 + count / 4
    if length == 1 then newest = math.max(newest or 0, tonumber(chunk)) end
  end
  local oldest = newest and newest - HISTORY_DAYS * 86400000 / CHUNK_MS
  while steps > 0 and (messages > most or bytes > room or is_older(order_key, oldest)) do
    local less, fewer = drop_oldest(order_key, true)
    if not less then return 0, 0 end -- all is dropped, whatever was counted
    messages, bytes, steps = messages - fewer, bytes - less, steps - 1
  end
  return messages, bytes
end

local function write_singles(room, bytes)
  local order_key, adds = history_key .. ':singles', 0
  for _, one in ipairs(singles) do adds = adds + #one[2] + #one[3] + KEY_BYTES end
  local steps = 32 * #singles
  while bytes + adds > room and steps > 0 do
    local less = drop_oldest(order_key, false)
    bytes, steps = less and bytes - less or 0, less and steps - 1 or 0
  end
  local has_room = bytes + adds <= room * 1.25
  for _, one in ipairs(singles) do
    local token, before, err = unpack(one)
    local item = before .. (has_room and err or string.sub(err, -SHORT_ERROR))
    local more, length = append_item(order_key, token, item)
    bytes = bytes + more
    if length > MOST_SINGLES then
      bytes = bytes - #redis.call('LPOP', history_key .. ':' .. token)
    elseif length > 1 then
      redis.call('EXPIRE', history_key .. ':' .. token, HISTORY_TTL)
    end
  end
  redis.call('EXPIRE', order_key, HISTORY_TTL + 86400)
  return bytes
end

-- Write what was kept. Without bounds, those count by which the last worker went.
local function write_history(most, room)
  if #batches == 0 and #singles == 0 then return end
  local found = redis.call('HMGET', history_key, 'messages', 'packed', 'single', 'most', 'room')
  most, room = most or tonumber(found[4] or 0), room or tonumber(found[5] or 0)
  if most == 0 then return end
  local messages, packed = tonumber(found[1] or 0), tonumber(found[2] or 0)
  local single = tonumber(found[3] or 0)
  if #batches > 0 then messages, packed = write_batches(most, room / 2, messages, packed) end
  if #singles > 0 then single = write_singles(room / 2, single) end
  redis.call('HSET', history_key, 'messages', messages, 'packed', packed, 'single', single,
    'most', most, 'room', room)
  redis.call('EXPIRE', history_key, HISTORY_TTL + 86400)
end

local function keep_history(most, room)
  pcall(write_history, most, room)
end
