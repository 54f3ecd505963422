-- Take up to `count` entries, what is to be run again first, and settle whose their IDs are. An
-- entry that a blocking read has already taken is handed in, to be settled in the same turn.
--
-- KEYS  1 stream  2 again  3 owners
-- ARGV  1 group  2 consumer  3 count  4 dedup window (s)
--       then for each entry already taken: key number, entry ID, digest, owner token ('' if
--       none), message ID
-- Reply {entries, repeats, lost}: an entry is {key number, entry ID, fields}; repeats are the
--       {key number, entry ID, message ID} of those that only repeated an ID which another
--       entry owns, acknowledged; lost are the same of those handed in that another consumer has
--       taken over meanwhile

local owners_key, window = KEYS[3], tonumber(ARGV[4])
local now = tonumber(redis.call('TIME')[1])
--#include acknowledge
--#include owners
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local entries, repeats, lost = {}, {}, {}

for i = 5, #ARGV, 5 do
  local which, id, message_id = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 4]
  if #redis.call('XPENDING', KEYS[which], group, id, id, 1, consumer) == 0 then
    lost[#lost + 1] = { which, id, message_id }
  elseif is_repeat(which, group, id, ARGV[i + 2], ARGV[i + 3]) then
    repeats[#repeats + 1] = { which, id, message_id }
  end
end

for _, which in ipairs({ 2, 1 }) do
  local wanted = count - #entries
  local read = wanted > 0 and redis.call('XREADGROUP', 'GROUP', group, consumer,
    'COUNT', wanted, 'STREAMS', KEYS[which], '>')
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
return { entries, repeats, lost }
