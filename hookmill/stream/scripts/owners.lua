-- Who owns a message ID. A part of the scripts that take, and of drop.lua and replay.lua. A script
-- that recorded something ends with close_generations().
--
-- The first entry that carried an ID owns it; its token is that entry's own ID. Tokens lie in
-- hashes (buckets) small enough for Redis' compact encoding. A generation of buckets lasts one
-- window of Redis' own time; an ID is looked up in this generation and the last, so it is
-- remembered for one to two windows. A generation begins with the buckets that the last one's size
-- asks for, and grows by one bucket at a time: the next in line is split in two (linear hashing),
-- so every bucket stays small and nothing is ever rebuilt as a whole.
-- Needs: `owners_key`, `window` (seconds), `now` (seconds).

local PER_BUCKET = 40 -- on average; the compact encoding ends at 128 (in places at 512)

local function hash_of(digest)
  local a, b, c, d = string.byte(digest, 1, 4)
  return a * 16777216 + b * 65536 + c * 256 + d
end

-- Bits of the digest beyond the number of buckets tell apart what a split separates.
local function bucket_key(gen, digest)
  local hash = hash_of(digest)
  local number = hash % gen.span
  if number >= gen.buckets then number = hash % (gen.span / 2) end
  return gen.prefix .. number
end

-- An entry ID in 10 bytes: milliseconds and sequence.
local function packed(token)
  local ms, seq = string.match(token, '^(%d+)-(%d+)$')
  if not ms then return token end -- not one of ours; as it stands it is as good
  return struct.pack('>I6I4', ms, seq) -- which reads digits as numbers
end

-- `span` is the number of buckets, or the next power of two.
local function made(number, buckets, size)
  local span = 1
  while span < buckets do span = span * 2 end
  local prefix = owners_key .. ':' .. number .. ':'
  return { number = number, prefix = prefix, buckets = buckets, span = span, size = size }
end

local function generation(number)
  local found = redis.call('HMGET', owners_key, number .. ':buckets', number .. ':size')
  if not found[1] then return nil end
  return made(number, tonumber(found[1]), tonumber(found[2] or 0))
end

local this, last

local function open_generations()
  local number = math.floor(now / window)
  last = generation(number - 1)
  this = generation(number)
  if this then return end
  -- A quarter of what the last one came to need, or its first IDs would each pay for a bucket.
  local buckets = math.max(1, math.floor((last and last.size or 0) / PER_BUCKET / 4))
  this = made(number, buckets, 0)
  redis.call('HDEL', owners_key, (number - 2) .. ':buckets', (number - 2) .. ':size')
end

local function close_generations()
  if not this or not this.changed then return end
  redis.call('HSET', owners_key, this.number .. ':buckets', this.buckets,
    this.number .. ':size', this.size)
  redis.call('EXPIRE', owners_key, window * 3)
end

local function expire(key)
  redis.call('EXPIREAT', key, (this.number + 2) * window)
end

local function grow()
  local new = this.buckets
  this.buckets = new + 1
  if this.buckets > this.span then this.span = this.span * 2 end
  local from, to = this.prefix .. new - this.span / 2, this.prefix .. new
  -- A copy, which takes the expiry along, and each loses what is the other's: so the values never
  -- come here, and a script that fails halfway leaves nothing where nobody looks for it.
  redis.call('COPY', from, to, 'REPLACE')
  close_generations()
  local stay, go = {}, {}
  for _, digest in ipairs(redis.call('HKEYS', from)) do
    local side = hash_of(digest) % this.span == new and go or stay
    side[#side + 1] = digest
  end
  if #go > 0 then redis.call('HDEL', from, unpack(go)) end
  if #stay > 0 then redis.call('HDEL', to, unpack(stay)) end
end

-- Record `token` as the owner of `digest` unless another is; return whether it is the owner.
local function own(digest, token)
  if not this then open_generations() end
  local ours, key = packed(token), bucket_key(this, digest)
  if redis.call('HSETNX', key, digest, ours) == 0 then
    return redis.call('HGET', key, digest) == ours
  end
  local owner = last and redis.call('HGET', bucket_key(last, digest), digest)
  if owner and owner ~= ours then
    redis.call('HDEL', key, digest)
    return false
  end
  -- Ours, or ours still: recorded anew, so that it lives as long as the message does.
  if redis.call('HLEN', key) == 1 then expire(key) end
  this.size, this.changed = this.size + 1, true
  if this.size > this.buckets * PER_BUCKET then grow() end
  return true
end

-- Forget that `token` owns `digest`, if it does, in the generations that are open.
local function disown(digest, token)
  for _, gen in ipairs({ this, last }) do
    local key = bucket_key(gen, digest)
    if redis.call('HGET', key, digest) == packed(token) then redis.call('HDEL', key, digest) end
  end
end

-- Return where the value of each of an entry's fields stands, by its name.
local function places_of(fields)
  local places = {}
  for i = 1, #fields, 2 do places[fields[i]] = i + 1 end
  return places
end

-- Return the digest, the owner token, the message ID and the ordering key that stand in an entry's
-- fields, '' where there is none. Keys count per source.
local function names_of(fields, places)
  local key = fields[places.key] or ''
  if key ~= '' then key = (fields[places.source] or '') .. ':' .. key end
  return fields[places.digest] or '', fields[places.owner] or '', fields[places.id] or '', key
end
