-- Count again how many bytes of a group are unfinished: one step of it. Later steps go on where this
-- one ends, because large bodies must not hold up other commands.
--
-- A step reads entries in this order: pending, unread, to be taken again, delayed, parked, paused. What
-- happens meanwhile is reckoned as always (backlog.lua), so the count is that of the moment when it
-- began: entries that were added later are left out. What has left before it was read is missing in
-- the count, which is little, because the oldest are read first.
--
-- KEYS  1 stream  2 backlog
-- ARGV  1 bytes after which a step ends, then the parts of the names as in measure.lua
-- Reply 1 where there is more to count, else 0

local group_parts = { unpack(ARGV, 2) }
--#include backlog
--#include weight

local left = tonumber(ARGV[1])
local LEAST = 512 -- bytes that reading an entry counts as at least

local names, group, state

local function count(fields)
  local bytes = weight_of(fields)
  state.messages, state.bytes = state.messages + 1, state.bytes + bytes
  left = left - math.max(bytes, LEAST)
end

-- Read a stream from the position on, a few entries at a time; return whether that is all of it.
local function read_stream(key, last)
  local step = 1
  while left > 0 do
    local entries = redis.call('XRANGE', key, state.position, last, 'COUNT', step)
    local before = left
    for _, entry in ipairs(entries) do
      count(entry[2])
      state.position = '(' .. entry[1]
    end
    if #entries < step then return true end
    step = math.max(1, math.min(100, math.floor(left / (before - left) * #entries / 2)))
  end
  return false
end

local steps = {}

function steps.pending()
  while left > 0 do
    local from, to = state.position, state.delivered
    if to == '0-0' then return true end
    local held = redis.call('XPENDING', KEYS[1], group, from, to, 10)
    for _, one in ipairs(held) do
      local entry = redis.call('XRANGE', KEYS[1], one[1], one[1])[1]
      count(entry and entry[2] or {}) -- an entry that somebody deleted is pending all the same
      state.position = '(' .. one[1]
    end
    if #held < 10 then return true end
  end
  return false
end

function steps.unread()
  if state.position == '-' then state.position = '(' .. state.unread_after end
  return read_stream(KEYS[1], state.last)
end

function steps.again()
  return read_stream(names.again, state.again_last)
end

function steps.delayed()
  if state.position == '-' then state.position = '0' end
  while left > 0 do
    local reply = redis.call('HSCAN', names.delayed .. ':entries', state.position, 'COUNT', 10)
    for i = 2, #reply[2], 2 do count(cmsgpack.unpack(reply[2][i])) end
    state.position = reply[1]
    if state.position == '0' then return true end
  end
  return false
end

-- The position is that of the scan through the ordering keys; `keys` are those that it found and that
-- are not read yet, `index` is the place in the list of the last of them.
function steps.parked()
  if state.position == '-' then state.position, state.keys, state.index = '0', {}, 0 end
  while left > 0 do
    local key = state.keys[#state.keys]
    if key then
      local packed = redis.call('LINDEX', names.parked .. ':' .. key, state.index)
      state.index = state.index + 1
      if packed then
        count(cmsgpack.unpack(packed)[2])
      else
        table.remove(state.keys)
        state.index = 0
      end
    elseif state.position == 'end' then
      return true
    else
      local reply = redis.call('HSCAN', names.busy, state.position, 'COUNT', 100)
      state.position = reply[1] == '0' and 'end' or reply[1]
      for i = 1, #reply[2], 2 do state.keys[#state.keys + 1] = reply[2][i] end
      left = left - LEAST
    end
  end
  return false
end

-- The same with the pauses; mostly there is none.
function steps.paused()
  if state.position == '-' then
    state.position, state.keys, state.index = 'end', {}, 0
    for _, field in ipairs(redis.call('HKEYS', names.paused)) do
      state.keys[#state.keys + 1] = string.match(field, '^pause (.*)$')
    end
  end
  while left > 0 do
    local name = state.keys[#state.keys]
    if not name then return true end
    -- Several at once: the list may be long, and Redis goes through it to a place in it.
    local step, before = state.at_once or 1, left
    local found = redis.call('LRANGE', names.paused .. ':' .. name, state.index, state.index + step - 1)
    for _, packed in ipairs(found) do count(cmsgpack.unpack(packed)) end
    state.index = state.index + #found
    if #found < step then
      table.remove(state.keys)
      state.index = 0
    end
    state.at_once = math.max(1, math.min(100, math.floor(left / (before - left + 1) * #found / 2)))
  end
  return false
end

local ORDER = { 'pending', 'unread', 'again', 'delayed', 'parked', 'paused' }

--#include last_id

local function later(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  local is_later = tonumber(a_ms) > tonumber(b_ms)
    or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
  return is_later and a or b
end

local function numbers()
  local kept = redis.call('HMGET', names.counts, 'unfinished:messages', 'unfinished:bytes')
  return tonumber(kept[1]), tonumber(kept[2])
end

local function begin(info)
  local messages, bytes = numbers()
  local before = redis.call('HGET', names.counts, 'before') or '0-0'
  return {
    step = 1, position = '-', messages = 0, bytes = 0,
    had_messages = messages, had_bytes = bytes,
    delivered = info['last-delivered-id'],
    unread_after = later(info['last-delivered-id'], before),
    last = last_id(KEYS[1]), again_last = last_id(names.again),
  }
end

-- Correct what is reckoned by what the count has found. The number of messages is corrected only where
-- Redis does not tell it.
local function correct(info)
  local messages, bytes = numbers()
  bytes = math.max(0, bytes + state.bytes - state.had_bytes)
  if not info['lag'] then messages = math.max(0, messages + state.messages - state.had_messages) end
  redis.call('HSET', names.counts, 'unfinished:messages', whole(messages),
    'unfinished:bytes', whole(bytes))
  redis.call('HDEL', names.counts, 'recount')
end

local function go_on(info)
  while ORDER[state.step] do
    if not steps[ORDER[state.step]]() then
      redis.call('HSET', names.counts, 'recount', cmsgpack.pack(state))
      return 1
    end
    state.step, state.position = state.step + 1, '-'
  end
  correct(info)
  return 0
end

measure(KEYS[1], KEYS[2], unpack(group_parts))
local more = 0
for _, info in ipairs(groups_of(KEYS[1])) do
  group = info['name']
  names = names_of(group, unpack(group_parts))
  local kept = redis.call('HGET', names.counts, 'recount')
  if kept and left <= 0 then
    more = 1
  elseif kept then
    state = kept == '' and begin(info) or cmsgpack.unpack(kept)
    more = math.max(more, go_on(info))
  end
end
measure(KEYS[1], KEYS[2], unpack(group_parts))
return more
