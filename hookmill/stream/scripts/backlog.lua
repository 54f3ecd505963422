-- How many messages are unfinished, and how many bytes they have. A part of append.lua and
-- measure.lua.
--
-- A hash keeps both counts. Each append adds to them, and measuring corrects them. Messages that
-- are finished but still retained do not count.

-- Return both counts, and how many bytes the largest message has (nil: not known; see largest.lua).
local function counted(key)
  local counts = redis.call('HMGET', key, 'messages', 'bytes', 'largest')
  return tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or '')
end

local function by_name(flat)
  local named = {}
  for i = 1, #flat, 2 do named[flat[i]] = flat[i + 1] end
  return named
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

-- Return how many entries were not delivered to a group yet. Where Redis does not tell (6.2, and
-- every version for a while after a lost group was made again), estimate it by time, as if all entries
-- had come at the same rate.
local function unread(stream, group)
  if group['lag'] then return group['lag'] end
  local info = by_name(redis.call('XINFO', 'STREAM', stream))
  local first, last, given = info['first-entry'], info['last-entry'], group['last-delivered-id']
  if not last or given == last[1] or ms_of(given) > ms_of(last[1]) then return 0 end
  local whole = ms_of(last[1]) - ms_of(first[1])
  local rest = ms_of(last[1]) - math.max(ms_of(given), ms_of(first[1]))
  if whole == 0 then return info['length'] end
  return math.max(1, math.floor(info['length'] * rest / whole))
end

-- Count once more. What counts for a group is unread, pending, to be taken again, delayed or parked; the
-- result is that of the group with the most. The name of a group's key is `before`, the group's
-- name, and `again`, `delayed` or `parked`.
local function measure(stream, key, before, again, delayed, parked)
  local messages = 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if not groups.err then
    if #groups == 0 then messages = redis.call('XLEN', stream) end
    for _, info in ipairs(groups) do
      local group = by_name(info)
      if string.sub(group['name'], -5) ~= ':bell' then -- wake-up groups finish nothing
        local base = before .. group['name']
        messages = math.max(messages, unread(stream, group) + group['pending']
          + redis.call('XLEN', base .. again) + redis.call('ZCARD', base .. delayed)
          + tonumber(redis.call('GET', base .. parked) or 0))
      end
    end
  end
  if messages == 0 then
    redis.call('HDEL', key, 'messages', 'bytes')
    -- What is finished and retained may be as large, and a new group begins with it.
    if redis.call('XLEN', stream) == 0 then redis.call('DEL', key) end
    return 0, 0
  end
  -- As if the messages that were finished were as large as the others, on average.
  local had, bytes = counted(key)
  if had > 0 then
    bytes = math.floor(bytes / had * messages)
  else
    local used = redis.pcall('MEMORY', 'USAGE', stream)
    bytes = type(used) == 'number' and used or 0
  end
  redis.call('HSET', key, 'messages', string.format('%.0f', messages),
    'bytes', string.format('%.0f', bytes))
  return messages, bytes
end
