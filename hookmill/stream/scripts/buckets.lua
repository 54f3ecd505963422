-- Finds the bucket of a message ID (owners.lua tells what buckets are). A part of owners.lua
-- and find_owners.lua. It writes nothing.
-- Needs: `owners_key`, set before the include.

local function hash_of(digest)
  local a, b, c, d = string.byte(digest, 1, 4)
  return a * 16777216 + b * 65536 + c * 256 + d
end

-- Return the key of the bucket in which a digest is: its hash modulo the span. Where that bucket
-- does not exist yet, it is the one that will be split into both.
local function bucket_key(gen, digest)
  local number = hash_of(digest) % gen.span
  if number >= gen.buckets then number = number - gen.span / 2 end
  return gen.prefix .. number
end

-- Add to generations how many buckets and IDs they have. The span is the number of buckets, or the
-- next greater power of two.
local function read_sizes(gens)
  local fields = {}
  for i, gen in ipairs(gens) do
    fields[2 * i - 1], fields[2 * i] = gen.name .. ':buckets', gen.name .. ':size'
  end
  local counts = redis.call('HMGET', owners_key, unpack(fields))
  for i, gen in ipairs(gens) do
    gen.prefix = owners_key .. ':' .. gen.name .. ':'
    gen.buckets, gen.size = tonumber(counts[2 * i - 1] or 0), tonumber(counts[2 * i] or 0)
    gen.span = 1
    while gen.span < gen.buckets do gen.span = gen.span * 2 end
  end
end

-- Return all generations that have buckets, for those who only look.
local function known_generations()
  local gens = {}
  for _, field in ipairs(redis.call('HKEYS', owners_key)) do
    local name = string.match(field, '^(%S+):buckets$')
    if name then gens[#gens + 1] = { name = name } end
  end
  if #gens > 0 then read_sizes(gens) end
  return gens
end
