-- Write down what became of entries: acknowledge them, and put what is to follow in its place.
--
-- Success always acknowledges. Anything else counts only while the entry is still pending for
-- this very consumer: a worker that was silent beyond its lease must not retry or bury what
-- another has taken over. With an ordering key even success counts only then: the next in line must
-- not begin while another worker still runs this one. What follows is written before the entry is
-- acknowledged: should a write be refused in between, the entry is still pending and nothing is
-- lost.
--
-- KEYS  1 stream  2 again  3 delayed  4 delayed entries  5 dead  6 suspects  7 busy  8 parked
--       9 counts  10 sooner
-- ARGV  1 group  2 consumer
--       then for either stream: n, then n entry IDs              (done, and without an ordering key)
--       then until the end: key number, entry ID, ordering key, owner token, m, then m times
--         'again' | 'dead', delay (ms), name among the delayed, k, then k strings (fields and values)
-- Reply {acknowledged, late}: how many entries were, and the IDs of those no longer ours

local again_key, busy_key, parked_key = KEYS[2], KEYS[7], KEYS[8]
--#include acknowledge
--#include order
local group, consumer = ARGV[1], ARGV[2]
local at = 2
local function next_arg()
  at = at + 1
  return ARGV[at]
end

local AT_ONCE = 1000 -- a call takes no more than 8000 arguments
local acknowledged, late = 0, {}
local has_suspects = redis.call('EXISTS', KEYS[6]) == 1

local function settle(which, ...)
  if has_suspects then
    for _, id in ipairs({ ... }) do redis.call('HDEL', KEYS[6], which .. ' ' .. id) end
  end
  acknowledged = acknowledged + acknowledge(which, group, ...)
end

for which = 1, 2 do
  local ends = tonumber(next_arg()) + at
  while at < ends do
    local first = at + 1
    at = math.min(at + AT_ONCE, ends)
    settle(which, unpack(ARGV, first, at))
  end
end

local function is_ours(which, id)
  return #redis.call('XPENDING', KEYS[which], group, id, id, 1, consumer) == 1
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- All workers sleep until what is due first. Tell them where something comes before that: each must
-- know, for whoever delayed it may die. Told before it is written, so a failure in between hurts no
-- one.
local first_due
local function tell_if_sooner(due)
  if not first_due then
    local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
    first_due = tonumber(head[2]) or math.huge
  end
  if due < first_due then
    redis.call('XADD', KEYS[10], 'MAXLEN', 1, '*', 'due', due)
    first_due = due
  end
end

-- Write what follows; return how many more entries the message has by it: none where it takes the
-- place of a delayed one, of a message that ran anew after its group was lost.
local function follow_up(kind, delay_ms, place, fields)
  if kind == 'dead' then
    redis.call('XADD', KEYS[5], '*', unpack(fields))
    return 0
  end
  if delay_ms == 0 then
    redis.call('XADD', KEYS[2], '*', unpack(fields))
    return 1
  end
  tell_if_sooner(now_ms + delay_ms)
  local added = redis.call('ZADD', KEYS[3], now_ms + delay_ms, place)
  redis.call('HSET', KEYS[4], place, cmsgpack.pack(fields))
  return added
end

while at < #ARGV do
  local which, id, key, token = tonumber(next_arg()), next_arg(), next_arg(), next_arg()
  local ours, change = is_ours(which, id), -1
  for _ = 1, tonumber(next_arg()) do
    local kind, delay_ms, place = next_arg(), tonumber(next_arg()), next_arg()
    local fields = {}
    for i = 1, tonumber(next_arg()) do fields[i] = next_arg() end
    if ours then change = change + follow_up(kind, delay_ms, place, fields) end
  end
  if ours then
    move_on(key, token, change)
    settle(which, id)
  else
    late[#late + 1] = id
  end
end
if #late > 0 then redis.call('HINCRBY', KEYS[9], 'late', #late) end
return { acknowledged, late }
