-- Wakes up a worker that waits, for what is in the streams of this partition. A part of the scripts
-- that take, and of those that add to the again stream. hookmill/stream/wakeup.py tells the protocol.
--
-- Needs: `again_key`, set before the include; the last of KEYS: the group's wake-ups.

--#include moves

local wake_key = KEYS[#KEYS]
local has_woken = false

local function wake()
  if not has_woken then redis.call('ZADD', wake_key, 0, again_key) end
  has_woken = true
end

-- Add an entry to the again stream. The wake-up comes first, because where Redis refuses a write in
-- between, a worker that is woken for nothing does no harm.
local function add_again(fields)
  note_move_of(fields)
  wake()
  redis.call('XADD', again_key, '*', unpack(fields))
end
