-- Take up to `count` entries, what is to be run again first, and settle whose their IDs are.
--
-- Where nothing is to be had, the group's bell is set to the end: what comes from now on rings.
--
-- KEYS  1 stream  2 again  3 owners
-- ARGV  1 group  2 consumer  3 count  4 dedup window (s)  5 the bell's name
-- Reply {entries, repeats}: an entry is {key number, entry ID, fields}; repeats are the
--       {key number, entry ID, message ID} of those that only repeated an ID which another
--       entry owns, acknowledged

local owners_key, window = KEYS[3], tonumber(ARGV[4])
local now = tonumber(redis.call('TIME')[1])
--#include acknowledge
--#include owners
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local entries, repeats = {}, {}

for _, which in ipairs({ 2, 1 }) do
  local wanted = count - #entries
  local read = wanted > 0 and redis.call('XREADGROUP', 'GROUP', group, consumer,
    'COUNT', wanted, 'STREAMS', KEYS[which], '>')
  if wanted > 0 and not read then redis.call('XGROUP', 'SETID', KEYS[which], ARGV[5], '$') end
  for _, entry in ipairs(read and read[1][2] or {}) do
    local id, fields = entry[1], entry[2]
    local digest, token, message_id = names_of(fields)
    if is_repeat(which, group, id, digest, token) then
      repeats[#repeats + 1] = { which, id, message_id }
    else
      entries[#entries + 1] = { which, id, fields }
    end
  end
end
close_generations()
return { entries, repeats }
