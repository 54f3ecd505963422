-- Notes whether a take left entries behind. A part of take.lua and direct_read.lua.
-- hookmill/stream/wakeup.py tells the protocol.
--
-- Needs: KEYS 1 stream  2 again; `group`, and wake.lua.

--#include by_name

-- Return whether one of the streams may have an entry that was not read yet. Redis before 7.0 does
-- not tell, nor does a stream of which somebody deleted an entry: then it may have.
local function may_have_more(which)
  if redis.call('XLEN', KEYS[which]) == 0 then return false end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[which])) do
    local info = by_name(flat)
    if info['name'] == group then return info['lag'] ~= 0 end
  end
  return false -- the group is gone: to read says so
end

-- Wake another worker where entries are left; where none are, take the wake-up back. `may_have` says
-- of each stream whether it may have more. Return 1 where entries may be left.
local function left_behind(may_have)
  if has_woken then return 1 end
  local is_left = may_have[1] or may_have[2]
  if is_left and redis.call('ZSCORE', wake_key, again_key) then return 1 end
  for which = 1, 2 do
    if may_have[which] and may_have_more(which) then
      wake()
      return 1
    end
  end
  redis.call('ZREM', wake_key, again_key)
  return 0
end
