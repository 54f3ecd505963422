-- Note that an event type was seen that no handler matches; return for how long it has been unknown.
--
-- That time grows from one look to the next, by at most ARGV[2]. So a step of Redis' clock, or a
-- time in which no worker ran, makes it no more than that longer. A look from the future (the clock
-- was set back) counts as one from now.
--
-- KEYS  1 first sights
-- ARGV  1 event type  2 by how much its time grows at most (ms)  3 after how long without a look a
--       type is forgotten (ms)  4 how many types are kept  5 1 where a worker knows the type: its
--       time starts again
-- Reply for how long the type has been unknown (ms)

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most_growth, kept_for, most_types = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- Return for how long a type was unknown at the last look at it, and when that look was.
local function read(text)
  local unknown, looked = string.match(text or '', '^(%d+) (%d+)$')
  return tonumber(unknown), tonumber(looked)
end

-- Strangers can make up types. The quarter that was not looked at for longest goes.
local function drop_oldest()
  local flat, types = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #flat, 2 do
    local _, looked = read(flat[i + 1])
    types[#types + 1] = { name = flat[i], looked = math.min(looked or 0, now_ms) }
  end
  table.sort(types, function(a, b) return a.looked < b.looked end)
  for i = 1, #types - math.floor(most_types * 3 / 4) do
    redis.call('HDEL', KEYS[1], types[i].name)
  end
end

local unknown, looked = read(redis.call('HGET', KEYS[1], ARGV[1]))
if not unknown and redis.call('HLEN', KEYS[1]) >= most_types then drop_oldest() end
local passed = now_ms - (looked or now_ms)
if not unknown or passed > kept_for or ARGV[5] == '1' then
  unknown = 0
else
  unknown = unknown + math.max(0, math.min(passed, most_growth))
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', unknown, now_ms))
redis.call('PEXPIRE', KEYS[1], kept_for)
return unknown
