-- Replay handled messages that the stream still has: put each into the again stream once more, with
-- its ID and its owner token, where its ordering key has its turn (order.lua).
--
-- The caller has looked at what the group had unfinished (hookmill/stream/unfinished.py) and leaves
-- that out. Whatever else was delivered before that look is finished, and stays so unless somebody
-- replays it: one run at a time has the right to. An entry that is pending all the same, and one whose
-- message ID another entry owns, is left out here.
--
-- The cursor of a replay is kept in this partition with the writes of each step. A step whose reply
-- was lost can be sent again: it is known by its cursor.
--
-- KEYS  1 stream  2 again  3 owners  4 busy  5 parked  6 counts  7 backlog  8 replays
--       9 the group's wake-ups
-- ARGV  1 group  2 name of the run  3 name of the replay  4 'act', or 'count' (nothing is written)
--       5 the cursor before this step  6 the cursor after it  7 messages, 8 bytes of the backlog, and
--       9 entries of the again stream from which on it rests (0: no limit)  10 bytes after which a step
--       ends  11 handler ('': all)  12 how many unfinished ones the caller has left out  13 for how long
--       the cursor is kept (s)  then the IDs of entries, the oldest first
-- Reply {state, cursor, replayed, forgotten, duplicates, unfinished, gone}: state is 'went on', 'rests',
--       'taken over' (another run has the right) or 'other cursor'; then what is kept under the replay's
--       name: replayed (of these, `forgotten` have an ID that is no longer remembered), left out as
--       duplicates or as unfinished, and gone (trimmed or deleted)

local again_key, owners_key, busy_key, parked_key = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counts_key = KEYS[6]
local group, run, name, acts = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == 'act'
--#include replay_right
--#include finished
--#include owners
--#include order
--#include weight
--#include largest

local NAMES = { 'cursor', 'replayed', 'forgotten', 'duplicates', 'unfinished', 'gone' }
local kept = {}
local words = string.gmatch(redis.call('HGET', KEYS[8], name) or '', '%S+')
for _, one in ipairs(NAMES) do kept[one] = words() or (one == 'cursor' and '-' or '0') end

local function reply(state)
  local answer = { state }
  for i, one in ipairs(NAMES) do answer[i + 1] = i == 1 and kept[one] or tonumber(kept[one]) end
  return answer
end

local function count(one, number)
  kept[one] = string.format('%.0f', tonumber(kept[one]) + number)
end

if not has_right(counts_key, run) then return reply('taken over') end
if acts then
  if kept.cursor == ARGV[6] then return reply('went on') end -- it was done, and its reply was lost
  if kept.cursor ~= ARGV[5] then return reply('other cursor') end
end

local function is_beyond(number, limit)
  return tonumber(limit) > 0 and tonumber(number or 0) >= tonumber(limit)
end

local backlog = redis.call('HMGET', KEYS[7], 'messages', 'bytes', 'largest')
if acts and (is_beyond(backlog[1], ARGV[7]) or is_beyond(backlog[2], ARGV[8])
  or is_beyond(redis.call('XLEN', again_key), ARGV[9])) then
  return reply('rests')
end

local generations = known_generations()
local largest, messages = tonumber(backlog[3] or ''), tonumber(backlog[1] or 0)

-- Put a finished entry where it is taken again.
local function place(id, fields)
  local copy = {}
  for i, word in ipairs(fields) do copy[i] = word end
  copy[#copy + 1], copy[#copy + 2] = 'owner', id
  if ARGV[11] ~= '' then copy[#copy + 1], copy[#copy + 2] = 'handler', ARGV[11] end
  largest = note_largest(KEYS[7], weight_of(copy), largest, messages)
  local _, _, _, key = identity_of(copy, places_of(copy))
  if key == '' then add_again(copy) else rejoin(key, id, copy) end
  note_finished(-1, -weight_of(copy))
end

-- Decide about an entry; return its bytes.
local function decide(id)
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    count('gone', 1)
    return 0
  end
  if #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1 then
    count('unfinished', 1)
    return 0
  end
  local fields = entry[2]
  local owner = owner_among(generations, fields[places_of(fields).digest] or '')
  if owner and owner ~= packed(id) then
    count('duplicates', 1)
    return 0
  end
  if acts then place(id, fields) end
  count('replayed', 1)
  if not owner then count('forgotten', 1) end
  return weight_of(fields)
end

-- A full Redis refuses the first write above, so a step is done whole or not at all.
local bytes, cursor = 0, ARGV[6]
for i = 14, #ARGV do
  bytes = bytes + decide(ARGV[i])
  if bytes >= tonumber(ARGV[10]) and i < #ARGV then
    cursor = ARGV[i]
    break
  end
end
count('unfinished', tonumber(ARGV[12]))
kept.cursor = cursor
if acts then
  local text = {}
  for i, one in ipairs(NAMES) do text[i] = kept[one] end
  redis.call('HSET', KEYS[8], name, table.concat(text, ' '))
  redis.call('EXPIRE', KEYS[8], ARGV[13])
  keep_finished()
end
return reply('went on')
