-- Notes whether a take left entries behind. A part of take.lua.
-- hookmill/stream/wakeup.py tells the protocol.
--
-- Needs: KEYS 1 stream  2 again; `group`, and ring.lua.

-- Return whether a stream has entries that were not delivered to the group. Where Redis does not
-- tell (6.2, or after entries were deleted by hand), there may be some.
local function has_unread(which)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[which])) do
    if info[2] == group then
      for i = 1, #info, 2 do
        if info[i] == 'lag' then return info[i + 1] ~= 0 end
      end
    end
  end
  return true
end

-- Wake another worker where entries are left; where none are, take the wake-up back. Both arguments
-- say whether a stream may have more. Return 1 where entries may be left.
local function left_behind(new, again)
  if not has_rung then
    if (new or again) and redis.call('ZSCORE', wake_key, again_key) then return 1 end
    if not (new and has_unread(1)) and not (again and has_unread(2)) then
      redis.call('ZREM', wake_key, again_key)
      return 0
    end
    ring()
  end
  return 1
end
