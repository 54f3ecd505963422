-- Ask for a place among the refused deliveries that are kept for a look.
--
-- Strangers cause refusals, so the first ones are kept and not the last. A source has at most half
-- of what the others leave free, and the more it has, the longer it waits for the next place: so its
-- share lasts for about the age that is kept. What came before a step of the clock is forgotten.
--
-- Only commands are used that a receiver has to send anyway, so its user needs no other rights.
--
-- KEYS  1 the places (a hash: `ID source`, and the time)
-- ARGV  1 source  2 places in all  3 age after which a place is free again (ms)  4 least time
--       between two places of a source (ms)  5 after how many places of a source that time grows
-- Reply 1 and the ID, or 0 and after how long it may be asked again (ms)

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local most, age, pause, steps = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local flat = redis.call('HGETALL', KEYS[1])
local total, own, last, oldest = 0, 0, nil, nil
for i = 1, #flat, 2 do
  local at_ms = tonumber(flat[i + 1])
  if at_ms <= now_ms - age or at_ms > now_ms then
    redis.call('HDEL', KEYS[1], flat[i])
  else
    total = total + 1
    oldest = math.min(oldest or at_ms, at_ms)
    if string.match(flat[i], '^%S+ (.*)$') == ARGV[1] then
      own = own + 1
      last = math.max(last or at_ms, at_ms)
    end
  end
end

local wait = last and last + pause * (1 + math.floor(own / steps)) - now_ms or 0
if wait > 0 then return { 0, wait } end
if own >= math.ceil((most - total + own) / 2) then
  return { 0, oldest and math.max(pause, oldest + age - now_ms) or pause }
end
local id = string.format('%.0f-%d', now_ms, total)
redis.call('HSET', KEYS[1], id .. ' ' .. ARGV[1], string.format('%.0f', now_ms))
redis.call('PEXPIRE', KEYS[1], age)
return { 1, id }
