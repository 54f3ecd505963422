-- Look which entry of a stream is the last. Its fields stay in Redis, because they may be large.
--
-- KEYS  1 stream
-- ARGV  none
-- Reply the ID, or '0-0' if there is none

--#include last_id
return last_id(KEYS[1])
