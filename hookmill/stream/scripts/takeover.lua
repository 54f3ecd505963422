-- Take over entries whose worker has been silent for a lease, and settle whose their IDs are.
--
-- KEYS  1 stream  2 again  3 owners
-- ARGV  1 group  2 consumer  3 count  4 dedup window (s)  5 key number  6 lease (ms)
--       7 cursor ('0-0' to begin)
-- Reply {entries, repeats, next cursor}: as take.lua gives them, an entry with one number more,
--       1 if it was taken over before; the cursor is '0-0' when the sweep is over

local owners_key, window = KEYS[3], tonumber(ARGV[4])
local now = tonumber(redis.call('TIME')[1])
--#include acknowledge
--#include owners
local group, consumer, which = ARGV[1], ARGV[2], tonumber(ARGV[5])
local key = KEYS[which]
local entries, repeats = {}, {}

local function is_suspect(id)
  local deliveries = redis.call('XPENDING', key, group, id, id, 1)[1][4]
  return deliveries > 2 and 1 or 0
end

local claimed = redis.call('XAUTOCLAIM', key, group, consumer, ARGV[6], ARGV[7], 'COUNT', ARGV[3])
local deleted = false
for _, entry in ipairs(claimed[2]) do
  if not entry then
    deleted = true
  else
    local id, fields = entry[1], entry[2]
    local digest, token, message_id = names_of(fields)
    if is_repeat(which, group, id, digest, token) then
      repeats[#repeats + 1] = { which, id, message_id }
    else
      entries[#entries + 1] = { which, id, fields, is_suspect(id) }
    end
  end
end
-- Redis before 7.0 gives nil for an entry that was deleted under our feet, and keeps it pending.
if deleted then
  for _, held in ipairs(redis.call('XPENDING', key, group, '-', '+', ARGV[3], consumer)) do
    if #redis.call('XRANGE', key, held[1], held[1]) == 0 then
      redis.call('XACK', key, group, held[1])
    end
  end
end

close_generations()
return { entries, repeats, claimed[1] }
