-- Read entries, the newest first, without the values of some fields (surveyed.lua).
--
-- KEYS  1 stream
-- ARGV  as in surveyed.lua
-- Reply as in surveyed.lua

-- XREVRANGE goes through the whole stream where all its entries have greater IDs than the range. So
-- it is asked only while the range has an entry: this is the last one that is read.
local oldest = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', 1)[1]
local read

local function next_entry(first, last)
  if not oldest or read == oldest[1] then return nil end
  local entry = redis.call('XREVRANGE', KEYS[1], last, first, 'COUNT', 1)[1]
  read = entry and entry[1]
  return entry
end

local function narrowed(first, _, id) return first, '(' .. id end
--#include surveyed
