-- Wakes up a worker of each group, for what was appended to the stream. A part of append.lua.
-- hookmill/stream/wakeup.py tells the protocol.
--
-- Where the stream has no group, because Redis lost it or no worker has been there yet, any worker
-- that waits is woken. It finds that its group is gone, and makes it again.
--
-- Needs: KEYS 1 stream; the last of KEYS: the wake-ups of all groups.

local function wake_all()
  local own = string.match(KEYS[1], '^(.*)stream$') -- what the keys of this partition begin with
  local shared = string.match(KEYS[#KEYS], '^(.*)wake$') -- and those of the wake-ups
  local is_alone = true
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = info[2] -- the reply is a list of names and values, and the name comes first
    if string.sub(group, -5) ~= ':bell' then -- release 0.1 woke its workers by such a group
      redis.call('ZADD', shared .. group .. ':wake', 0, own .. group .. ':again')
      is_alone = false
    end
  end
  if is_alone then redis.call('ZADD', KEYS[#KEYS], 0, KEYS[1]) end
end
