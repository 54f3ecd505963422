-- Ask whether it is this worker's turn to look at who still holds what.
--
-- It is, if the number of looks has not changed since this worker asked last: then nobody else
-- looks. The number goes up with each look. So any worker can go on where another one died, and no
-- clock of Redis is needed.
--
-- KEYS  1 looks
-- ARGV  1 the number that this worker saw last ('': it asks for the first time)
-- Reply {number, 1 if it is this worker's turn, what the last look that came to its end has found,
--       as looked.lua wrote it}

local number, found = unpack(redis.call('HMGET', KEYS[1], 'number', 'found'))
number, found = number or '0', found or ''
if number ~= ARGV[1] then return { number, 0, found } end
number = tostring(redis.call('HINCRBY', KEYS[1], 'number', 1))
redis.call('EXPIRE', KEYS[1], 86400) -- nobody looks in a group that was dropped
return { number, 1, found }
