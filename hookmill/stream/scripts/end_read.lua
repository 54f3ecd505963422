-- Decide about the entries that were read since begin_read.lua: which run, which are duplicates, and
-- which are parked (taking.lua). The last step of a transaction, so no other read came in between.
--
-- What it needs of each entry is in the index (index.lua). Where the index has not as many entries
-- as were read, they are read from the stream once more.
--
-- KEYS  1 to 6 as in taking.lua  7 index  8 gate  9 the group's wake-ups
-- ARGV  1 group  2 consumer  3 dedup window (s)  4 how many were asked for  5 the name of this read
-- Reply {duplicates, parked, held back, decided, indexed, again, left}: the first two as in taking.lua;
--       held back: the IDs of both; decided: {first ID, last ID, number} for each row of entries that
--       follow one another; indexed: 1 where the index had all; again: 1 where the again stream may
--       have entries; left: 1 where one of both may have more. 0 where the read was not begun

local group, consumer, window = ARGV[1], ARGV[2], tonumber(ARGV[3])
local gate_key, index_key = KEYS[8], KEYS[7]
local begun = redis.call('HGET', KEYS[6], 'read')
redis.call('DEL', gate_key)
if not begun then return 0 end
redis.call('HDEL', KEYS[6], 'read')
local name, before, had = string.match(begun, '^(%S+) (%S+) (%S+)$')
if name ~= ARGV[5] then return 0 end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include taking
--#include left_behind
--#include index_rows

local info
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local one = by_name(flat)
  if one['name'] == group then info = one end
end
local count, last = info['pending'] - tonumber(had), info['last-delivered-id']

local decided, held_back = {}, {}

-- Decide about an entry with its fields. If it does not run, the reply names it.
local function decide_whole(id, fields)
  if not may_go(1, id, fields, weight_of(fields)) then held_back[#held_back + 1] = id end
end

-- Return whether an entry was read. One of the index may be deleted, and where the index has not all,
-- the number of entries does not tell.
local function was_read(id)
  return #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 1
end

-- Decide about entries of the index. The fields of one that may not run are read, because what becomes
-- of it needs them. A deleted entry must not become the head of a key, because nobody would settle it.
local function decide_row(row)
  local keys = row.keys and cmsgpack.unpack(row.keys)
  for seq = row.from, row.to do
    local place = seq - row.first
    local digest = string.sub(row.digests, place * DIGEST + 1, (place + 1) * DIGEST)
    local key = keys and keys[place + 1] or ''
    local id = row.ms .. '-' .. seq
    if not own(digest, struct.pack('>I6I4', row.ms, seq))
      or key ~= '' and not (was_read(id) and may_run(key, id)) then
      local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
      if entry then decide_whole(id, entry[2]) end
    end
  end
  decided[#decided + 1] = { row.ms .. '-' .. row.from, row.ms .. '-' .. row.to, row.to - row.from + 1 }
end

local rows = rows_of_index(before, last, count)
for _, row in ipairs(rows or {}) do decide_row(row) end
if not rows then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. before, last)) do
    decide_whole(entry[1], entry[2])
    decided[#decided + 1] = { entry[1], entry[1], 1 }
  end
end
finish()
local again = may_have_more(2)
local left = left_behind({ count == tonumber(ARGV[4]), again })
return { duplicates, parked, held_back, decided, rows and 1 or 0, again and 1 or 0, left }
