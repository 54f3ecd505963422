-- Write down what became of entries: acknowledge each, and add the entries that take its place.
--
-- A success without an ordering key always acknowledges. Everything else counts only while the
-- entry is still pending for this consumer. A worker that was silent for longer than its lease
-- must not retry an entry, or make it a dead letter, that another worker has taken over. With an
-- ordering key this holds for a success too, because the next message must not start while another
-- worker still runs this one.
--
-- New entries are written before the old one is acknowledged: where Redis refuses a write in
-- between, the old entry is still pending and nothing is lost. order.lua tells how a head's count
-- changes.
--
-- A new entry has the fields of the old one, but for some that change. They are copied inside of Redis,
-- so no body is sent twice. Where somebody deleted the old entry, nothing changes, and the caller is
-- told; it sends the fields then.
--
-- KEYS  1 stream  2 again  3 delayed  4 delayed entries  5 dead  6 suspects  7 busy  8 parked
--       9 counts  10 sooner  11 due  12 history  13 paused
--       14 the group's wake-ups
-- ARGV  1 group  2 consumer  3 messages of which a history is kept, 0: none is, and then nothing of it
--       follows  4 bytes that it may have
--       then the successes without an ordering key: n, their bytes, then n entry IDs in the
--       stream, b, and b batches of the history; the same with entry IDs in the again stream.
--       A batch: chunk, how many attempts, and the item that is kept
--       then b, and b batches of the other entries
--       then until the end, for each other entry: key number (1 stream, 2 again), entry ID, bytes
--       (0: not known), ordering key with its source, owner token, the number of its batch of the
--       history, or 0 and then head and error of what is written singly ('': nothing is); n and n
--       strings: the entry's fields (names and values in turn), or none: they are read here; m, and
--       for each of m new entries: 'again', 'aside' (the same, but its key does not wait for it),
--       'paused' or 'dead', delay (ms), name in the set of delayed or of the pause, k, and k strings:
--       the fields that change
-- Reply {acknowledged, late, gone}: how many entries were acknowledged, the IDs of those that are no
--       longer this consumer's, and the positions (1 for the first of the other entries) of those
--       that are not settled, because they were deleted and their fields were not sent

local again_key, busy_key, parked_key, counts_key = KEYS[2], KEYS[7], KEYS[8], KEYS[9]
local delayed_key, due_key, history_key, paused_key = KEYS[3], KEYS[11], KEYS[12], KEYS[13]
--#include acknowledge
--#include finished
--#include history
local group, consumer = ARGV[1], ARGV[2]
local most, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = 4
local function next_arg()
  at = at + 1
  return ARGV[at]
end

local AT_ONCE = 1000 -- entries in one command: Lua passes at most 8000 arguments
local acknowledged, late = 0, {}
local has_suspects = redis.call('EXISTS', KEYS[6]) == 1

local function settle(which, ...)
  if has_suspects then
    for _, id in ipairs({ ... }) do redis.call('HDEL', KEYS[6], which .. ' ' .. id) end
  end
  acknowledged = acknowledged + acknowledge(which, group, ...)
end

-- Note entries as finished. Where their bytes are not known they are left out; then the number of
-- messages is wrong, so that all is counted again.
local function note_settled(count, bytes)
  if bytes > 0 then note_finished(count, bytes) end
end

-- Keep the next batches of the history, where there are any.
local function keep_batches(some_late)
  if most == 0 then return end
  for _ = 1, tonumber(next_arg()) do
    keep_batch(next_arg(), tonumber(next_arg()), next_arg(), some_late)
  end
end

for which = 1, 2 do
  local count, bytes, had = tonumber(next_arg()), tonumber(next_arg()), acknowledged
  local ends = at + count
  while at < ends do
    local first = at + 1
    at = math.min(at + AT_ONCE, ends)
    settle(which, unpack(ARGV, first, at))
  end
  local settled = acknowledged - had
  if settled > 0 then note_settled(settled, math.floor(bytes * settled / count)) end
  keep_batches(settled < count)
end

if at >= #ARGV then -- mostly that is all: what follows is for the other entries
  keep_finished()
  keep_history(most, room)
  return { acknowledged, {}, {} }
end

local dead_key = KEYS[5]
--#include reason_counts
--#include weight
--#include order
--#include held_back
--#include due
--#include changed

local function is_ours(which, id)
  return #redis.call('XPENDING', KEYS[which], group, id, id, 1, consumer) == 1
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include clock

-- Write one new entry; return by how many the entries of its message grow: 1, but 0 for a dead
-- letter. Also 0 where the delayed entry replaces an older one, which happens when the message ran
-- again after its group was lost.
local dead_id -- the last dead letter that was made
local function follow_up(kind, delay_ms, place, fields)
  note_move_of(fields)
  if kind == 'dead' then
    dead_id = redis.call('XADD', dead_key, '*', unpack(fields))
    note_dead(dead_id, reason_of(fields))
    return 0
  end
  if kind == 'paused' then
    note_finished(-1, -weight_of(fields))
    hold_back(place, fields)
    return 1
  end
  if delay_ms == 0 then
    add_again(fields)
    note_finished(-1, -weight_of(fields))
    return 1
  end
  heed_clock()
  note_delayed(now_ms + delay_ms, KEYS[10])
  local added = redis.call('ZADD', KEYS[3], now_ms + delay_ms, place)
  redis.call('HSET', KEYS[4], place, cmsgpack.pack(fields))
  if added == 1 then note_finished(-1, -weight_of(fields)) end
  return added
end

local function next_strings()
  local strings = {}
  for i = 1, tonumber(next_arg()) do strings[i] = next_arg() end
  return strings
end

-- Return the number of an entry's batch of the history, or 0, and what is written singly.
local function next_kept()
  local number = tonumber(next_arg())
  if number > 0 then return number end
  return 0, next_arg(), next_arg()
end

-- Return the next of the other entries, as its arguments say.
local function next_other()
  local one = { follow_ups = {} }
  one.which, one.id, one.bytes = tonumber(next_arg()), next_arg(), tonumber(next_arg())
  one.key, one.token = next_arg(), next_arg()
  if most > 0 then one.batch, one.head, one.error = next_kept() end
  one.fields = next_strings()
  for i = 1, tonumber(next_arg()) do
    local new = {}
    new.kind, new.delay_ms, new.place = next_arg(), tonumber(next_arg()), next_arg()
    new.changes = next_strings()
    one.follow_ups[i] = new
  end
  return one
end

-- Return the fields of which new entries are made; nil where they are neither sent nor there.
local function fields_of(one)
  if #one.fields > 0 or #one.follow_ups == 0 then return one.fields end
  local found = redis.call('XRANGE', KEYS[one.which], one.id, one.id)[1]
  return found and found[2]
end

-- The batches of the other entries. While these are settled, it is noted how many of a batch came by, and
-- which owner tokens change: one that is late has a mark, and '-' stands for an entry that is not settled
-- yet, because it is gone. The caller sends it once more.
local others = {}
for i = 1, most > 0 and tonumber(next_arg()) or 0 do
  others[i] = { next_arg(), tonumber(next_arg()), next_arg(), seen = 0, owners = {} }
end

-- Keep what became of an entry: 'late', 'gone' or 'settled'.
local function keep_one(one, what)
  if most == 0 then return end
  if one.batch > 0 then
    local batch = others[one.batch]
    batch.seen = batch.seen + 1
    if what ~= 'settled' then
      batch.owners[batch.seen] = what == 'late' and '~' .. one.token or '-'
    end
  elseif one.head ~= '' and what ~= 'gone' then
    local state = what == 'late' and 1 or 0
    keep_single(one.token, state, now_ms, dead_id or '', one.head, one.error)
  end
end

local number, gone = 0, {}
while at < #ARGV do
  local one = next_other()
  local ours, change = is_ours(one.which, one.id), -1
  local fields = ours and fields_of(one)
  number, dead_id = number + 1, nil
  if not ours then
    late[#late + 1] = one.id
    keep_one(one, 'late')
  elseif not fields then
    gone[#gone + 1] = number
    keep_one(one, 'gone')
  else
    for _, new in ipairs(one.follow_ups) do
      local its_fields = changed(fields, new.changes)
      local added = follow_up(new.kind, new.delay_ms, new.place, its_fields)
      if new.kind ~= 'aside' then change = change + added end
    end
    change_head(one.key, one.token, change)
    settle(one.which, one.id)
    note_settled(1, one.bytes)
    keep_one(one, 'settled')
  end
end
keep_finished()
keep_dead()
for _, batch in ipairs(others) do
  local chunk, count, item = unpack(batch)
  if next(batch.owners) then item = with_owners(item, batch.owners) end
  keep_batch(chunk, count, item, false)
end
keep_history(most, room)
if #late > 0 then redis.call('HINCRBY', KEYS[9], 'late', #late) end
return { acknowledged, late, gone }
