-- Claim a task for a while: one worker at a time does it for all.
--
-- KEYS  1 claim
-- ARGV  1 for how long (ms), the same for all workers
-- Reply 0 where the caller has it now, else for how many ms another one has it

local duration = tonumber(ARGV[1])
if redis.call('SET', KEYS[1], '', 'NX', 'PX', duration) then return 0 end
local left = redis.call('PTTL', KEYS[1])
-- Nobody claims for longer than that. So Redis' clock was set back since, and the claim would last
-- until the clock has made up for it.
if left > duration then
  redis.call('SET', KEYS[1], '', 'PX', duration)
  return 0
end
return math.max(1, left)
