-- Who owns a message ID. A part of take.lua and takeover.lua, put before their text.
--
-- The first entry that carried an ID owns it; its token is that entry's own ID. Tokens lie in
-- hashes (buckets) small enough for Redis' compact encoding, and buckets in generations one
-- window long. An ID is looked up in this generation and the last, so it is remembered for one
-- to two windows. Time is Redis' own. Needs: `owners_key`, `window` (seconds), `now` (seconds).

local BUCKET = 64       -- IDs a bucket is meant to hold
local FIRST_BUCKETS = 1024

local function generation(number)
  local buckets = redis.call('HGET', owners_key, number .. ':buckets')
  if not buckets then return nil end
  return { number = number, buckets = tonumber(buckets) }
end

local function bucket_of(digest, gen)
  local a, b, c, d = string.byte(digest, 1, 4)
  return owners_key .. ':' .. gen.number .. ':'
    .. ((a * 16777216 + b * 65536 + c * 256 + d) % gen.buckets)
end

local this, last

-- The number of buckets of a new generation follows the size of the one before it.
local function open_generations()
  local number = math.floor(now / window)
  last = generation(number - 1)
  this = generation(number)
  if this then return end
  local size = tonumber(redis.call('HGET', owners_key, (number - 1) .. ':size') or 0)
  this = { number = number, buckets = math.max(FIRST_BUCKETS, math.ceil(size / BUCKET)) }
  redis.call('HSET', owners_key, number .. ':buckets', this.buckets)
  redis.call('HDEL', owners_key, (number - 2) .. ':buckets', (number - 2) .. ':size')
  redis.call('EXPIRE', owners_key, window * 3)
end

-- Record `token` as the owner of `digest` unless another is; return the owner.
local function own(digest, token)
  if not this then open_generations() end
  local bucket = bucket_of(digest, this)
  local owner = redis.call('HGET', bucket, digest)
  if owner then return owner end
  owner = last and redis.call('HGET', bucket_of(digest, last), digest)
  if owner and owner ~= token then return owner end
  -- Ours, or ours still: recorded anew, so that it lives as long as the message does.
  redis.call('HSET', bucket, digest, token)
  if redis.call('HLEN', bucket) == 1 then
    redis.call('EXPIREAT', bucket, (this.number + 2) * window)
  end
  redis.call('HINCRBY', owners_key, this.number .. ':size', 1)
  return token
end

-- Find the digest, the owner token and the message ID in an entry's fields.
local function names_of(fields)
  local digest, token, message_id = '', '', ''
  for i = 1, #fields, 2 do
    if fields[i] == 'digest' then digest = fields[i + 1] end
    if fields[i] == 'owner' then token = fields[i + 1] end
    if fields[i] == 'id' then message_id = fields[i + 1] end
  end
  return digest, token, message_id
end

-- Acknowledge an entry that only repeats another's ID; return whether it did. An entry without a
-- digest is of a wire version that has none: it is left to the worker.
local function is_repeat(which, group, id, digest, token)
  if #digest < 4 then return false end
  if token == '' then token = id end
  if own(digest, token) == token then return false end
  acknowledge(which, group, id)
  return true
end
