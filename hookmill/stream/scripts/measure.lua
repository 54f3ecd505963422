-- Count the unfinished messages anew, and keep the counts for the appends.
--
-- KEYS  1 stream  2 backlog
-- ARGV  1 what stands before a group's name in the names of its keys  2, 3, 4 what follows it in
--       the names of its again stream, its delayed and its parked messages
-- Reply how many messages, and bytes of them, are unfinished

--#include backlog

return {measure(KEYS[1], KEYS[2], unpack(ARGV))}
