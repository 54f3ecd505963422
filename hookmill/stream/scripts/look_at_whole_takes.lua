-- Look whether a worker has taken from all partitions since the caller looked last. If none has, the
-- caller does it now. hookmill/stream/wakeup.py tells the protocol.
--
-- KEYS  1 releaser
-- ARGV  1 the number that the caller saw last ('': it never looked, and only wants to know it)
-- Reply {1 where it is the caller's turn, else 0; the number}

local seen = tonumber(ARGV[1])
local number = tonumber(redis.call('HGET', KEYS[1], 'whole-takes') or 0)
-- A smaller number: Redis has lost it.
if not seen or number > seen then return { 0, number } end
number = redis.call('HINCRBY', KEYS[1], 'whole-takes', 1)
redis.call('EXPIRE', KEYS[1], 86400) -- a late worker may write this after its group was dropped
return { 1, number }
