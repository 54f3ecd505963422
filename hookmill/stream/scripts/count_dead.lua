-- Read how many dead letters there are, and how many by reason, in one moment. It writes nothing.
--
-- KEYS  1 dead  2 their reasons
-- ARGV  none
-- Reply {how many, the hash of reasons: names and values in turn}

return { redis.call('XLEN', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
