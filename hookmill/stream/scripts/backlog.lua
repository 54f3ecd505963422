-- How many messages are unfinished, and how many bytes they have. A part of append.lua, measure.lua
-- and recount.lua. Messages that are finished but still retained do not count.
--
-- What counts for a group is unread, pending, to be taken again, delayed, parked or paused. The numbers of the
-- group with the most are in the hash of the backlog. Each append adds to them; measuring looks at
-- all groups and corrects them.
--
-- The number of messages comes from Redis itself. The bytes are reckoned: what was unfinished when it
-- was last measured, and what was appended since, without what the group has finished since
-- (finished.lua). The same is reckoned for the messages. Where that is not their real number, something
-- was not noted: a program of release 0.1, an entry that somebody deleted, a lost group, a Redis that
-- restarted without its last writes. Then the bytes are scaled, and recount.lua counts them again.
--
-- A group's own numbers are in the hash of its counts:
--   unfinished:messages, unfinished:bytes   as last measured
--   finished:messages, finished:bytes       since then
--   added              how many entries the stream had ever had, when it was last measured
--   before, since      a group that was made beside others: the last entry that was there before it,
--                      and how many came later. What was there before is no backlog until it is taken
--   recount            its bytes have to be counted again; how far recount.lua is

--#include group_names

-- Return both counts, and how many bytes the largest message has (nil: not known; see largest.lua).
local function counted(key)
  local counts = redis.call('HMGET', key, 'messages', 'bytes', 'largest')
  return tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or '')
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Return how many entries were not delivered to a group yet, as if all entries had come at the same
-- rate. Redis does not always tell: 6.2 never does, others do not for a while after a lost group was
-- made again, or an entry deleted.
local function estimate_unread(stream, group)
  local info = by_name(redis.call('XINFO', 'STREAM', stream))
  local first, last, given = info['first-entry'], info['last-entry'], group['last-delivered-id']
  if not last or given == last[1] or ms_of(given) > ms_of(last[1]) then return 0 end
  local whole_time = ms_of(last[1]) - ms_of(first[1])
  local rest = ms_of(last[1]) - math.max(ms_of(given), ms_of(first[1]))
  if whole_time == 0 then return info['length'] end
  return math.max(1, math.floor(info['length'] * rest / whole_time))
end

-- Return bytes for so many messages, as if they were as large as those of which the hash knows.
local function average_bytes(stream, key, messages)
  local had, bytes = counted(key)
  if had > 0 then return bytes / had * messages end
  local used = redis.pcall('MEMORY', 'USAGE', stream)
  return type(used) == 'number' and used or 0
end

local FEW = 1000 -- so many unread messages at most are worth a second look

-- Return whether a group has taken every entry that is there.
local function has_taken_all(stream, group)
  return #redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1) == 0
end

-- Return how many messages of a group are unfinished, and whether that is certain. `reckoned` and
-- `since` may be nil.
local function messages_of(stream, group, names, reckoned, since)
  local others = group['pending'] + redis.call('XLEN', names.again)
    + redis.call('ZCARD', names.delayed) + tonumber(redis.call('GET', names.parked) or 0)
    + tonumber(redis.call('HGET', names.paused, 'count') or 0)
  local lag = group['lag']
  if lag then
    -- The lag counts what somebody has trimmed, too, and in Redis 7.0 what somebody has deleted.
    local unread = math.min(lag, redis.call('XLEN', stream))
    unread = math.max(0, math.min(unread, since or unread))
    local is_doubtful = reckoned ~= unread + others and unread > 0 and unread <= FEW
    if is_doubtful and has_taken_all(stream, group) then unread = 0 end
    return unread + others, true
  end
  local unread = estimate_unread(stream, group)
  if not reckoned then return unread + others, false end
  return math.max(reckoned, others + math.min(1, unread)), false
end

-- Return how many entries the stream has ever had, nil where Redis does not tell.
local function added_to(stream, group)
  if group['lag'] and group['entries-read'] then return group['lag'] + group['entries-read'] end
  if redis.call('XLEN', stream) > 0 then return nil end
  return by_name(redis.call('XINFO', 'STREAM', stream))['entries-added']
end

-- Return how many messages and bytes were appended since a group was last measured, and whether that
-- is certain. It is not where a program of release 0.1 has measured: it overwrites the counts.
local function appended_for(stream, key, added, kept)
  local messages, bytes = counted(key)
  local last = redis.call('HMGET', key, 'measured:messages', 'measured:bytes')
  messages, bytes = messages - tonumber(last[1] or 0), bytes - tonumber(last[2] or 0)
  if not added or not kept or added - kept == messages then return messages, bytes, true end
  return added - kept, average_bytes(stream, key, added - kept), false
end

-- Return the unfinished messages and bytes of a group that was never measured, where all that its
-- stream has ever had is counted: it is new.
local function numbers_of_new(key, added)
  local messages = counted(key)
  local is_new = added == messages and redis.call('HEXISTS', key, 'measured:messages') == 0
  return is_new and 0 or nil, 0
end

-- Measure one group; return its unfinished messages and bytes.
local function measure_group(stream, key, group, names)
  local kept = redis.call('HMGET', names.counts, 'unfinished:messages', 'unfinished:bytes',
    'finished:messages', 'finished:bytes', 'since', 'recount', 'added')
  local added = added_to(stream, group)
  local new_messages, new_bytes, are_right =
    appended_for(stream, key, added, tonumber(kept[7] or ''))
  local reckoned, bytes = tonumber(kept[1] or ''), tonumber(kept[2] or '')
  if not reckoned then reckoned, bytes = numbers_of_new(key, added) end
  if reckoned then
    reckoned = reckoned + new_messages - tonumber(kept[3] or 0)
    bytes = bytes + new_bytes - tonumber(kept[4] or 0)
  end
  local since = kept[5] and tonumber(kept[5]) + new_messages
  local messages, is_certain = messages_of(stream, group, names, reckoned, since)
  is_certain = is_certain and are_right and reckoned == messages
  if messages == 0 then
    bytes = 0
  elseif not reckoned or reckoned <= 0 then
    bytes = average_bytes(stream, key, messages)
  elseif reckoned ~= messages then
    bytes = bytes / reckoned * messages
  end
  bytes = math.max(0, bytes)
  local gone = { 'finished:messages', 'finished:bytes' }
  if since and group['lag'] and group['lag'] <= since then -- it has taken all that is older
    gone[3], gone[4], since = 'before', 'since', nil
  end
  redis.call('HDEL', names.counts, unpack(gone))
  redis.call('HSET', names.counts, 'unfinished:messages', whole(messages),
    'unfinished:bytes', whole(bytes), 'added', added and whole(added) or '')
  if since then redis.call('HSET', names.counts, 'since', whole(since)) end
  if messages == 0 then
    if kept[6] then redis.call('HDEL', names.counts, 'recount') end
  elseif not kept[6] and not is_certain then
    redis.call('HSET', names.counts, 'recount', '')
  end
  return messages, bytes
end

-- Count once more. Return the numbers of the group with the most, and its name.
local function measure(stream, key, ...)
  local messages, bytes, name = 0, 0, ''
  local groups = groups_of(stream)
  for _, group in ipairs(groups) do
    local names = names_of(group['name'], ...)
    notice_new(stream, key, groups, group, ...)
    local some, size = measure_group(stream, key, group, names)
    if some > messages then name = group['name'] end
    messages, bytes = math.max(messages, some), math.max(bytes, size)
  end
  if #groups == 0 then
    local length = redis.pcall('XLEN', stream)
    messages = type(length) == 'number' and length or 0
    bytes = messages > 0 and average_bytes(stream, key, messages) or 0
  end
  if messages == 0 then
    redis.call('HDEL', key, 'messages', 'bytes', 'measured:messages', 'measured:bytes')
    -- What is finished and retained may be as large, and a new group begins with it.
    if redis.call('XLEN', stream) == 0 then redis.call('DEL', key) end
    return 0, 0, name
  end
  redis.call('HSET', key, 'messages', whole(messages), 'bytes', whole(bytes),
    'measured:messages', whole(messages), 'measured:bytes', whole(bytes))
  return messages, bytes, name
end
