-- Read what came behind an entry, the oldest first, as survey.lua does, and count what came at all:
-- entries that were dropped before they could be read are missing from the one and not the other.
--
-- The count is asked of a group that knows it, because XINFO STREAM copies the bodies of two entries.
--
-- KEYS  1 stream
-- ARGV  as in surveyed.lua
-- Reply {page, added}: the page as in surveyed.lua; how many entries were ever added (-1: not known)

--#include by_name

local function count_added()
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err then return -1 end -- there is no stream
  for _, group in ipairs(groups) do
    local facts = by_name(group)
    if facts['entries-read'] and facts['lag'] then return facts['entries-read'] + facts['lag'] end
  end
  return by_name(redis.call('XINFO', 'STREAM', KEYS[1]))['entries-added'] or -1
end

local added = count_added()

-- Singly: how large an entry is, is known only once it is read.
local function next_entry(first, last)
  return redis.call('XRANGE', KEYS[1], first, last, 'COUNT', 1)[1]
end

local function narrowed(_, last, id) return '(' .. id, last end

local function read_page()
--#include surveyed
end
return { read_page(), added }
