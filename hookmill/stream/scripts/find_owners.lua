-- Find which entries own message IDs, in all generations that are remembered (owners.lua).
--
-- KEYS  1 owners
-- ARGV  digests
-- Reply {position of the digest (1 for the first), packed owner token} for each owner that was found

local owners_key = KEYS[1]
--#include buckets

local generations, found = known_generations(), {}
for position, digest in ipairs(ARGV) do
  local seen = {}
  for _, gen in ipairs(generations) do
    local owner = gen.buckets > 0 and redis.call('HGET', bucket_key(gen, digest), digest)
    if owner and not seen[owner] then
      seen[owner] = true
      found[#found + 1] = { position, owner }
    end
  end
end
return found
