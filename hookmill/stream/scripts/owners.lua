-- Remembers which entry owns a message ID. A part of take.lua, takeover.lua and direct_read.lua
-- (by taking.lua), drop.lua and replay.lua. A script that called own() ends with close_generations().
--
-- The first entry with an ID owns it. Its owner token is that entry's own ID in the stream; retries
-- and dead letters of it carry the token in a field.
--
-- The tokens are in hashes ("buckets"), by digest of the ID. Each bucket is small enough for Redis'
-- compact encoding. A generation of buckets collects what comes within one dedup window, and
-- generations.lua says which there are. An ID is looked up in all of them, mostly two, so it is
-- remembered for one to two windows. Sources with a window of their own have generations apart, and
-- an ID is looked up in those as well (windows.lua).
--
-- A generation starts with as many buckets as follow from the size of the last one, and grows by one
-- bucket at a time: the next one in turn is split in two (linear hashing). So no bucket gets large,
-- and nothing is rebuilt as a whole.
--
-- The buckets are the hashes `owners_key`:NAME:BUCKET, where NAME is the generation's. All of them
-- expire.
-- Needs: `owners_key`, and for own(): `window` (seconds) and `now_ms`, set before the include.

--#include generations
--#include windows
--#include buckets

local PER_BUCKET = 40 -- on average; the compact encoding ends at 128 (in places at 512)
local FEWEST = 1024 -- buckets of a new generation

-- Return a token in 10 bytes: the milliseconds and the sequence number of an entry ID.
local function packed(token)
  local ms, seq = string.match(token, '^(%d+)-(%d+)$')
  if not ms then return token end -- no entry ID, so it is kept as it is
  return struct.pack('>I6I4', ms, seq) -- struct reads the digits as numbers
end

-- Return the token that was packed.
local function unpacked(owner)
  if #owner ~= 10 then return owner end
  local ms, seq = struct.unpack('>I6I4', owner)
  return string.format('%.0f-%.0f', ms, seq)
end

local this -- the current generation of the workers' window
local mains, apart -- all generations of the workers' window, and those of other windows
local asked = {} -- the generations that have any IDs
local currents = {} -- the current generation by what a message says of its window

-- Make a current generation ready for IDs. `last` is the one before, if that has any.
local function prepare(gen, last)
  if gen.buckets > 0 then return end
  -- As many buckets as it needs if IDs come as fast as in the last one, because to split buckets
  -- would be a third of what the IDs cost. Redis has only those that have an ID, so the first
  -- generation, of which nothing is expected, can have many as well.
  last = last or { size = 0, window = 1 }
  local expected = last.size * math.min(1, gen.window / last.window)
  gen.buckets = math.max(FEWEST, math.floor(expected / PER_BUCKET))
  while gen.span < gen.buckets do gen.span = gen.span * 2 end
end

-- Let IDs be looked up in a current generation, and in no older view of it.
local function ask(gen)
  for i, other in ipairs(asked) do
    if other.name == gen.name then
      asked[i] = gen
      return
    end
  end
  asked[#asked + 1] = gen
end

local function open_generations()
  local now = math.floor(now_ms / 1000)
  local lists = redis.call('HMGET', owners_key, 'generations', 'windows')
  apart = lists[2] and generations_apart(lists[2], now) or {}
  mains = current_generations(lists[1] or '', now, apart)
  local gens = mains
  if #apart > 0 then
    gens = { unpack(mains) }
    for _, gen in ipairs(apart) do gens[#gens + 1] = gen end
  end
  read_sizes(gens)
  for _, gen in ipairs(gens) do
    if gen.buckets > 0 then asked[#asked + 1] = gen end
  end
  this = mains[1]
  local last = mains[2] and mains[2].buckets > 0 and mains[2]
  prepare(this, last or mains[3])
  ask(this)
end

-- Return the current generation for a message that says of its window `text`.
local function current_for(text)
  local width = string.match(text, '^[1-9]%d*$') and #text < 10 and tonumber(text)
  if not width then return this end
  width = window_for(width, apart, this)
  if width == this.window then return this end
  local gen
  gen, apart = current_apart(width, apart, mains)
  if not gen.prefix then read_sizes({ gen }) end
  local last
  for _, other in ipairs(apart) do
    if other ~= gen and other.window == width and not last then last = other end
  end
  prepare(gen, last)
  ask(gen)
  return gen
end

local function note_size(gen)
  redis.call('HSET', owners_key, gen.name .. ':buckets', gen.buckets, gen.name .. ':size', gen.size)
end

local function close_generations()
  if not this then return end
  if this.changed then note_size(this) end
  for _, gen in ipairs(apart) do
    if gen.changed then note_size(gen) end
  end
end

-- Split one bucket of a generation in two.
local function grow(gen)
  local new = gen.buckets
  gen.buckets = new + 1
  if gen.buckets > gen.span then gen.span = gen.span * 2 end
  local from, to = gen.prefix .. new - gen.span / 2, gen.prefix .. new
  -- Copy the bucket with its expiry, then delete from each of the two what belongs to the other.
  -- So the values are not read, and where the script fails halfway no ID is lost.
  redis.call('COPY', from, to, 'REPLACE')
  note_size(gen)
  local stay, go = {}, {}
  for _, digest in ipairs(redis.call('HKEYS', from)) do
    local side = hash_of(digest) % gen.span == new and go or stay
    side[#side + 1] = digest
  end
  if #go > 0 then redis.call('HDEL', from, unpack(go)) end
  if #stay > 0 then redis.call('HDEL', to, unpack(stay)) end
end

-- Record `ours`, a packed token, as the owner of `digest`, unless there is another owner; return
-- whether it is the owner now, and if not, the owner's packed token. `text` is what the message says
-- of its window, if it says anything.
local function own(digest, ours, text)
  if not this then open_generations() end
  local current = this
  if text then
    current = currents[text] or current_for(text)
    currents[text] = current
  end
  local key = bucket_key(current, digest)
  if redis.call('HSETNX', key, digest, ours) == 0 then
    local owner = redis.call('HGET', key, digest)
    return owner == ours, owner
  end
  for _, gen in ipairs(asked) do
    local owner = gen ~= current and redis.call('HGET', bucket_key(gen, digest), digest)
    if owner and owner ~= ours then
      redis.call('HDEL', key, digest)
      return false, owner
    end
  end
  -- A new owner, or one of an earlier generation that is recorded again: so an ID is remembered for
  -- as long as its message is unfinished.
  if redis.call('HLEN', key) == 1 then redis.call('EXPIREAT', key, current.forgotten) end
  current.size, current.changed = current.size + 1, true
  if current.size > current.buckets * PER_BUCKET then grow(current) end
  return true
end

-- Return the packed token of the owner of `digest` in these generations, nil if it has none there.
local function owner_among(gens, digest)
  if #digest < 4 then return nil end
  for _, gen in ipairs(gens) do
    local owner = redis.call('HGET', bucket_key(gen, digest), digest)
    if owner then return owner end
  end
end

-- Delete `token` as the owner of `digest` in these generations, where it is the owner.
local function disown(gens, digest, token)
  for _, gen in ipairs(gens) do
    local key = bucket_key(gen, digest)
    if redis.call('HGET', key, digest) == packed(token) then redis.call('HDEL', key, digest) end
  end
end

-- Return the positions of an entry's values, by the names of their fields.
local function places_of(fields)
  local places = {}
  for i = 1, #fields, 2 do places[fields[i]] = i + 1 end
  return places
end

-- Return an entry's digest, owner token, message ID and ordering key from its fields, '' for what
-- it does not have. The key begins with the source, because sources do not share keys.
local function identity_of(fields, places)
  local key = fields[places.key] or ''
  if key ~= '' then key = (fields[places.source] or '') .. ':' .. key end
  return fields[places.digest] or '', fields[places.owner] or '', fields[places.id] or '', key
end
