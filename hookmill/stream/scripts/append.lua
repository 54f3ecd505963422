-- Append the deliveries of one loop tick to the stream: all of them or none, but for those whose
-- signed token came before with another message ID.
--
-- KEYS  1 stream  2 backlog  3 tokens (a prefix: a hash for each minute of expiry)
-- ARGV  1 bytes in all  2 messages, 3 bytes that may be unfinished (0: any number)
--       4 to 7 the parts of the names of a group's keys, as in measure.lua
--       then for each delivery: its message's digest, its token (empty: none), the Unix time in
--       seconds when that expires, ms to remember it, number of strings, field, value, ...
-- Reply the new entries' IDs in the order given, '' for a token that was used before; or the
--       error BACKLOGFULL, and nothing is appended

--#include backlog

local max_messages, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])

local function is_full(messages, bytes)
  return (max_messages > 0 and messages >= max_messages) or (max_bytes > 0 and bytes >= max_bytes)
end

-- The counts only grow until somebody measures; so measure before saying no.
if is_full(counted(KEYS[2]))
  and is_full(measure(KEYS[1], KEYS[2], unpack(ARGV, 4, 7))) then
  return redis.error_reply('BACKLOGFULL too many messages are unfinished')
end

local ids, appended, first = {}, 0, 8
while first <= #ARGV do
  local digest, token, count = ARGV[first], ARGV[first + 1], tonumber(ARGV[first + 4])
  local tokens = token ~= '' and KEYS[3] .. ':' .. math.floor(tonumber(ARGV[first + 2]) / 60)
  local spent = tokens and redis.call('HGET', tokens, token)
  local id = ''
  if not spent or spent == digest then
    id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, first + 5, first + 4 + count))
    appended = appended + 1
    if tokens and not spent then
      -- After the entry is there: a token is not spent on an append that failed.
      redis.call('HSET', tokens, token, digest)
      local ms = tonumber(ARGV[first + 3])
      if redis.call('PTTL', tokens) < ms then redis.call('PEXPIRE', tokens, ms) end
    end
  end
  ids[#ids + 1] = id
  first = first + 5 + count
end
if appended > 0 then
  redis.call('HINCRBY', KEYS[2], 'messages', appended)
  redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[1])
end
return ids
