-- Counts the dead letters that leave, by their reason. A part of drop.lua and replay.lua.
--
-- A recount has read those up to its cursor, so what leaves from there leaves its counts as well.
-- Needs: reason_counts.lua.

--#include id_parts
local left, left_recount = {}, {}
local recounted -- up to which entry a recount has come; false: there is none; nil: not known yet
local newest -- newest_counted(); nil: not known yet
local is_uncounted = false -- whether one has left that was never counted

local function is_up_to(id, last)
  local ms, seq = parts_of(id)
  local to_ms, to_seq = parts_of(last)
  return ms < to_ms or (ms == to_ms and seq <= to_seq)
end

local function is_recounted(id)
  if recounted == nil then recounted = redis.call('HGET', dead_recount_key, 'cursor') end
  return recounted and is_up_to(id, recounted)
end

local function note_gone(id, reason)
  newest = newest or newest_counted()
  if newest ~= WRONG and not is_up_to(id, newest) then is_uncounted = true end
  left[reason] = (left[reason] or 0) + 1
  if is_recounted(id) then left_recount[reason] = (left_recount[reason] or 0) + 1 end
end

-- A script that notes some ends with this.
local function keep_gone()
  for reason, number in pairs(left) do count_reason(reasons_key, reason, -number) end
  for reason, number in pairs(left_recount) do count_reason(dead_recount_key, reason, -number) end
  if is_uncounted then redis.call('HSET', reasons_key, 'newest', WRONG) end
end
