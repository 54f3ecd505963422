-- Take, renew or release the lease of the QStash emulator.
--
-- An expired lease can still be renewed while nobody else has taken it, because the owner key does
-- not expire.
--
-- KEYS  1 lease  2 owner
-- ARGV  1 token  2 "take", "hold" or "release"  3 duration of the lease (ms)
-- Reply 1, or 0 if another process holds the lease

local token, what = ARGV[1], ARGV[2]
if what == 'take' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  redis.call('SET', KEYS[2], token)
elseif redis.call('GET', KEYS[2]) ~= token then
  return 0
end
if what == 'release' then
  redis.call('DEL', KEYS[1], KEYS[2])
else
  redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
end
return 1
