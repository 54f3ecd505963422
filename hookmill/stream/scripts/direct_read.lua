-- Read new entries without a script: the first and the last step of a transaction. Between them
-- XREADGROUP reads from the gate and the stream, so no other read comes in between.
-- hookmill/stream/direct_reads.py sends all three.
--
-- 'begin' opens the gate. The gate is an empty stream. XREADGROUP gives nothing where one of its streams
-- has not the group, so it gives nothing while the gate is shut. It is opened only where no entry can
-- be larger than the caller believes: the caller has chosen a count for its budget of bytes.
--
-- 'end' decides about the entries that were read since: which run, which are duplicates, and which are
-- parked (taking.lua). What it needs of them is in the index (index.lua). What the index has not is
-- read from the stream once more.
--
-- Both steps are one script, so that a server never has one of them alone.
--
-- KEYS  1 to 6 as in taking.lua  7 index  8 gate  9 backlog  10 the group's wake-ups
-- ARGV  1 'begin' or 'end'  2 group  3 consumer  4 dedup window (s)  5 how many are asked for
--       6 how many bytes an entry may have  7 the name of this read
-- Reply to 'begin': 1 where the gate is open, else 0
--       to 'end': {duplicates, parked, held back, decided, read twice, again, pauses, left}: the first two as in
--       taking.lua; held back: the IDs of both; decided: {first ID, last ID, number} for each row of
--       entries that follow one another; read twice: how many entries the index has not; again: 1 where
--       the again stream may have entries; pauses: their version when it began (held_back.lua); left: 1 where one of both may have more. 0 where the read
--       was not begun

--#include by_name
--#include noted_for_takes

local group, consumer, window, wanted = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function info_of_group()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local info = by_name(flat)
    if info['name'] == group then return info end
  end
end

local noted = redis.call('HGET', KEYS[9], 'largest')
redis.call('DEL', KEYS[8]) -- in the first step too: a read that was not ended leaves the gate open

if ARGV[1] == 'begin' then
  if not noted or tonumber(noted) > tonumber(ARGV[6]) then return 0 end
  -- Entries that were there before the group are counted when take.lua takes them (finished.lua).
  local before, pauses, all_is_paused = noted_for_takes(KEYS[6])
  if before or all_is_paused then return 0 end
  local info = info_of_group()
  if not info then return 0 end
  local state = { info['last-delivered-id'], info['pending'], string.format('%.0f', pauses), ARGV[7] }
  redis.call('HSET', KEYS[6], 'read', table.concat(state, ' '))
  redis.call('XGROUP', 'CREATE', KEYS[8], group, '0', 'MKSTREAM')
  return 1
end

local begun = redis.call('HGET', KEYS[6], 'read')
if not begun then return 0 end
redis.call('HDEL', KEYS[6], 'read')
local before, had, pauses, name = string.match(begun, '^(%S+) (%S+) (%S+) (.*)$')
if name ~= ARGV[7] then return 0 end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local index_key = KEYS[7]
--#include taking
--#include left_behind
--#include largest
--#include index_rows

local info = info_of_group()
local count, last = info['pending'] - tonumber(had), info['last-delivered-id']
local decided, held_back, read_twice, most_bytes = {}, {}, 0, 0

-- Decide about an entry with its fields. If it does not run, the reply names it.
local function decide_whole(id, fields)
  local bytes = weight_of(fields)
  most_bytes = math.max(most_bytes, bytes)
  if not may_go(1, id, fields, bytes) then held_back[#held_back + 1] = id end
end

-- Decide about entries of which the index has nothing.
local function decide_entries(entries)
  for _, entry in ipairs(entries) do
    decide_whole(entry[1], entry[2])
    decided[#decided + 1] = { entry[1], entry[1], 1 }
  end
  read_twice = read_twice + #entries
end

-- Return whether an entry was read: somebody may have deleted it before.
local function was_read(id)
  return #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1
end

-- Decide about entries of the index. The fields of one that may not run are read, because what becomes
-- of it needs them. A deleted entry must not become the head of a key: nobody would settle it.
local function decide_row(row)
  local digests, keys = row.digests, row.packed_keys and cmsgpack.unpack(row.packed_keys)
  local windows = row.packed_windows and cmsgpack.unpack(row.packed_windows)
  for seq = row.from, row.to do
    local place = seq - row.first
    local digest = string.sub(digests, place * DIGEST + 1, place * DIGEST + DIGEST)
    local key = keys and keys[place + 1] or ''
    local its_window = windows and windows[place + 1]
    local is_owner = own(digest, struct.pack('>I6I4', row.ms, seq), its_window)
    if not is_owner or key ~= '' then
      local id = id_of(row.ms, seq)
      if not (is_owner and was_read(id) and may_run(key, id)) then
        local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
        if entry then decide_whole(id, entry[2]) end
      end
    end
  end
  decided[#decided + 1] = { id_of(row.ms, row.from), id_of(row.ms, row.to), row.to - row.from + 1 }
end

local rows, gaps = rows_and_gaps(KEYS[1], before, last, count)
for i, gap in ipairs(gaps) do
  decide_entries(gap)
  if rows[i] then decide_row(rows[i]) end
end
finish()
-- Receivers of an older release write no index, and do not note how large their messages are.
if most_bytes > tonumber(noted) then note_largest(KEYS[9], most_bytes, tonumber(noted)) end
local again = may_have_more(2)
local left = left_behind({ count == wanted, again })
return { duplicates, parked, held_back, decided, read_twice, again and 1 or 0, tonumber(pauses), left }
