-- Read entries, the oldest first, without the values of some fields (surveyed.lua).
--
-- KEYS  1 stream
-- ARGV  as in surveyed.lua
-- Reply as in surveyed.lua

local function next_entry(first, last)
  return redis.call('XRANGE', KEYS[1], first, last, 'COUNT', 1)[1]
end

local function narrowed(_, last, id) return '(' .. id, last end
--#include surveyed
