-- Count the unfinished messages anew, and keep the counts for the appends.
--
-- KEYS  1 stream  2 backlog
-- ARGV  1 what stands before a group's name in the names of its keys  2, 3 what follows it in the
--       names of its again stream and of its delayed messages
-- Reply how many messages, and bytes of them, are unfinished

--#include backlog

return {measure(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])}
