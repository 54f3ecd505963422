-- Count the unfinished messages once more, and keep the counts for the appends.
--
-- KEYS  1 stream  2 backlog
-- ARGV  1 what precedes a group's name in the names of its keys  2, 3, 4 what follows the group's
--       name in those of its again stream, its delayed and its parked messages
-- Reply {messages, bytes}: how many messages are unfinished, and how many bytes they have

--#include backlog

return {measure(KEYS[1], KEYS[2], unpack(ARGV))}
