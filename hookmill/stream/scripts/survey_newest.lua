-- Read entries, the newest first, without the values of some fields (surveyed.lua).
--
-- KEYS  1 stream
-- ARGV  as in surveyed.lua
-- Reply as in surveyed.lua

local function next_entry(first, last)
  return redis.call('XREVRANGE', KEYS[1], last, first, 'COUNT', 1)[1]
end

local function narrowed(first, _, id) return first, '(' .. id end
--#include surveyed
