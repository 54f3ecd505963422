-- The groups of a stream, the names of their keys, and which of them are new. A part of trim.lua,
-- and of append.lua, measure.lua and recount.lua (by backlog.lua).

--#include by_name

-- Return what Redis says of each group, without the wake-up groups: they finish nothing.
local function groups_of(stream)
  local found, groups = {}, redis.pcall('XINFO', 'GROUPS', stream)
  for _, info in ipairs(groups.err and {} or groups) do
    local group = by_name(info)
    if string.sub(group['name'], -5) ~= ':bell' then found[#found + 1] = group end
  end
  return found
end

-- Return the names of a group's keys. A name is `before`, the group's name, and what follows it.
local function names_of(group, before, again, delayed, parked, counts, busy, low_water, paused)
  local base = before .. group
  return {
    again = base .. again, delayed = base .. delayed, parked = base .. parked,
    counts = base .. counts, busy = base .. busy, low_water = base .. low_water,
    paused = base .. paused,
  }
end

local function has_finished(names)
  return (redis.call('GET', names.low_water) or '0-0') ~= '0-0'
end

-- Note where a group begins that was made beside others: what was there before is not its backlog. It
-- has no low-water mark yet, while another group has one. It is noticed some seconds after it was made.
local function notice_new(stream, key, groups, group, ...)
  local names = names_of(group['name'], ...)
  if has_finished(names) or redis.call('HEXISTS', names.counts, 'unfinished:messages') == 1
    or redis.call('HEXISTS', names.counts, 'before') == 1 then return end
  for _, other in ipairs(groups) do
    if has_finished(names_of(other['name'], ...)) then
      local last = by_name(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
      local known = redis.call('HMGET', key, 'messages', 'measured:messages')
      local new = tonumber(known[1] or 0) - tonumber(known[2] or 0)
      redis.call('HSET', names.counts, 'before', last, 'since', -new)
      redis.call('HDEL', names.counts, 'finished:messages', 'finished:bytes')
      return
    end
  end
end
