-- End a pause, and put what it has held back into the again stream, in its order: one step of that.
-- Later steps go on until nothing is left.
--
-- KEYS  1 paused  2 counts  3 due  4 sooner  5 again  6 the group's wake-ups
-- ARGV  1 the pause's name; '': one that has to end by itself, or whose resuming has stopped
--       2 how many entries at most  3 after how many bytes a step ends
--       4 since when the pause is on that is meant (Unix ms): one that is newer stays
-- Reply {name, moved, left}: the name of the pause ('': there is none), how many entries were moved, and
--       how many are left

local paused_key, counts_key, due_key, sooner_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local again_key = KEYS[5]
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
--#include wake
--#include held_back
--#include pauses_due
local GO_ON = 2000 -- ms after which another one goes on, where the caller has not

-- Return whether a pause is newer than the one that is meant: it was paused again meanwhile.
local function is_newer(about)
  local could, noted = pcall(cjson.decode, about)
  local since = could and type(noted) == 'table' and tonumber(noted.since_ms)
  return since and since > tonumber(ARGV[4])
end

-- Return the name of a pause that nobody else ends.
local function due_one()
  local all = redis.call('HGETALL', paused_key)
  for i = 1, #all, 2 do
    local name = string.match(all[i], '^pause (.*)$')
    local state, ends = string.match(all[i + 1], '^(%a+) (%d+) ')
    local is_due = state == 'resuming' or (state == 'on' and ends ~= '0' and tonumber(ends) <= now_ms)
    if name and is_due then return name end
  end
  return ''
end

local name = ARGV[1] == '' and due_one() or ARGV[1]
local state, _, about = pause_of(name)
if state == '' then
  note_pauses_due(now_ms)
  return { '', 0, 0 }
end
if state == 'on' then
  if ARGV[1] ~= '' and is_newer(about) then return { name, 0, 0 } end
  redis.call('HSET', paused_key, 'pause ' .. name, 'resuming 0 ' .. about)
  if name == 'all' then redis.call('HDEL', counts_key, 'all') end
  change_version()
  wake() -- workers that were woken meanwhile have taken nothing
end

local list, moved, bytes = paused_key .. ':' .. name, 0, 0
while moved < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local packed = redis.call('LINDEX', list, 0)
  if not packed then break end
  add_again(cmsgpack.unpack(packed))
  redis.call('LPOP', list)
  moved, bytes = moved + 1, bytes + #packed
end
if moved > 0 then count_held_back(name, -moved) end

local left = tonumber(redis.call('HGET', paused_key, 'count ' .. name) or 0)
if not redis.call('LINDEX', list, 0) then
  if left ~= 0 then count_held_back(name, -left) end -- somebody deleted the list
  left = 0
  redis.call('HDEL', paused_key, 'pause ' .. name, 'count ' .. name)
  local is_last = redis.call('HLEN', paused_key) == 1 and redis.call('HEXISTS', paused_key, 'count') == 1
  if is_last then redis.call('DEL', paused_key) end -- only the sum is left, which is 0
end
note_pauses_due(ARGV[1] == '' and now_ms or now_ms + GO_ON)
return { name, moved, left }
