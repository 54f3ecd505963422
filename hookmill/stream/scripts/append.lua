-- Append a batch of messages to the stream: all of them or none. A message is left out where its
-- signed token was used before, for another message ID.
--
-- KEYS  1 stream  2 backlog  3 tokens (a prefix: there is a hash for each minute of expiry)
--       4 index (index.lua)  5 wake-ups of all groups
-- ARGV  1 bytes of all messages  2 messages, 3 bytes that may be unfinished (0: no limit)
--       4 to 11 the parts of the names of a group's keys, as in measure.lua
--       12 bytes of the largest message
--       then runs of messages with the same field names, each run: number of fields, their names,
--       number of messages, and for each message: digest of its ID, digest of its token (empty: it
--       has none), when the token expires (Unix seconds), for how many ms to remember it, and the
--       values of its fields
-- Reply the new entries' IDs in the order given, '' for a message that was left out; or the error
--       BACKLOGFULL with the name of the group that has the most, then nothing is appended

--#include backlog
--#include wake_all
--#include largest
--#include index

local max_messages, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])

local function is_full(messages, bytes)
  return (max_messages > 0 and messages >= max_messages) or (max_bytes > 0 and bytes >= max_bytes)
end

-- The counts only grow until they are measured, so measure before refusing.
local messages, bytes, largest = counted(KEYS[2])
if is_full(messages, bytes) then
  local group
  messages, bytes, group = measure(KEYS[1], KEYS[2], unpack(ARGV, 4, 11))
  if is_full(messages, bytes) then return redis.error_reply('BACKLOGFULL ' .. group) end
  messages, bytes, largest = counted(KEYS[2])
end

local names = {} -- the hash of tokens for each time of expiry
local lasts = {} -- for each hash of tokens: in how many ms it expires, as far as it was asked for

-- Return the hash of the tokens that expire in the same minute.
local function tokens_until(expires)
  local name = names[expires]
  if not name then
    name = KEYS[3] .. ':' .. math.floor(tonumber(expires) / 60)
    names[expires] = name
  end
  return name
end

-- Let a hash of tokens expire in `ms` at the earliest.
local function keep_for(tokens, ms)
  lasts[tokens] = lasts[tokens] or redis.call('PTTL', tokens)
  if lasts[tokens] < ms then
    redis.call('PEXPIRE', tokens, ms)
    lasts[tokens] = ms
  end
end

-- Append a message whose token was just recorded; return its entry ID, or the error. A failed append
-- must not use up the token, because the sender delivers once more.
local function append_or_forget(tokens, token, fields)
  local id = redis.pcall('XADD', KEYS[1], '*', unpack(fields))
  if id.err then redis.call('HDEL', tokens, token) end
  return id
end

-- Append the message whose arguments begin at `at`; return its entry ID, '' where it is left out, or
-- an error. `fields` has the names of its fields, and a free place after each.
local function append(at, fields)
  local digest, token = ARGV[at], ARGV[at + 1]
  for i = 2, #fields, 2 do fields[i] = ARGV[at + 3 + i / 2] end
  if token == '' then return redis.call('XADD', KEYS[1], '*', unpack(fields)) end
  local tokens = tokens_until(ARGV[at + 2])
  if redis.call('HSETNX', tokens, token, digest) == 1 then
    keep_for(tokens, tonumber(ARGV[at + 3]))
    return append_or_forget(tokens, token, fields)
  end
  if redis.call('HGET', tokens, token) ~= digest then return '' end
  return redis.call('XADD', KEYS[1], '*', unpack(fields))
end

-- Before the appends: an entry that is larger than what is noted could be taken beside many others.
if ARGV[12] ~= '0' then note_largest(KEYS[2], tonumber(ARGV[12]), largest, messages) end

local ids, appended, left_out, at = {}, 0, 0, 13
while at <= #ARGV do
  local count, fields = tonumber(ARGV[at]), {}
  for i = 1, count do
    fields[2 * i - 1] = ARGV[at + i]
    fields[2 * i] = ''
  end
  local keys_at, window_at = places_of_key(fields)
  at = at + count + 2
  for _ = 1, tonumber(ARGV[at - 1]) do
    local id = append(at, fields)
    if id.err then return id end -- a text has no such field
    ids[#ids + 1] = id
    if id ~= '' then
      appended = appended + 1
      digests[appended] = ARGV[at]
      if keys_at then keys[appended] = key_of(fields, keys_at) end
      if window_at then windows[appended] = fields[window_at] end
    else
      for i = at + 4, at + 3 + count do left_out = left_out + #ARGV[i] end
    end
    at = at + 4 + count
  end
end
if appended > 0 then
  redis.call('HINCRBY', KEYS[2], 'messages', appended)
  redis.call('HINCRBY', KEYS[2], 'bytes', tonumber(ARGV[1]) - left_out)
  keep_index(KEYS[4], ids)
  wake_all()
end
return ids
