-- Says in which generations the owners of message IDs are recorded. A part of owners.lua.
--
-- A generation collects what comes until its end, and is remembered for one dedup window after
-- that. All times are by Redis' clock. The window that counts for a generation is kept with it: a
-- worker with another window goes on with the generations that there are, and its own window
-- counts from the next generation on. So no ID is forgotten where the window is changed, or where
-- workers with several windows run at the same time. Sources with a window of their own have
-- generations apart (windows.lua).
--
-- `owners_key` names a hash. NAME:buckets and NAME:size are the number of buckets and of IDs of a
-- generation. `generations` has all that are remembered, the current one first, each as 'NAME
-- WINDOW END FORGOTTEN' (seconds), with ',' in between. NAME is the number of windows since 1970,
-- as with release 0.1, which finds its generations by that number and does not know `generations`.
-- Needs: `owners_key`, `window` and `now_ms`, set before the include.

local MOST_GENERATIONS = 8 -- there are 2, or 3 after another window; more only if a clock steps back

-- Describe a generation that is `number` windows after 1970.
local function numbered(number, width)
  return { name = string.format('%.0f', number), window = width, ends = (number + 1) * width,
    forgotten = (number + 2) * width }
end

-- Return the window of a generation that release 0.1 made, by when one of its buckets expires; nil
-- if it has no bucket.
local function window_in_0_1(number, buckets)
  for bucket = 0, buckets - 1 do
    local left = redis.call('PTTL', owners_key .. ':' .. number .. ':' .. bucket)
    if left ~= -2 then
      local expires = (now_ms + left) / 1000
      local width = math.floor(expires / (number + 2) + 0.5)
      local is_right = left >= 0 and math.abs(width * (number + 2) - expires) < 1
      return is_right and width or window
    end
  end
end

-- Sort generations into those that are remembered and those whose time is over.
local function sort_out(found, now, remembered, forgotten)
  for _, gen in ipairs(found) do
    local into = gen.forgotten > now and remembered or forgotten
    into[#into + 1] = gen
  end
end

-- Return the generations that a list names.
local function listed_generations(text)
  local found = {}
  for name, width, ends, forgotten in string.gmatch(text, '([^ ,]+) (%d+) (%d+) (%d+)') do
    found[#found + 1] = { name = name, window = tonumber(width), ends = tonumber(ends),
      forgotten = tonumber(forgotten) }
  end
  return found
end

-- Return the generations that release 0.1 made and that are not listed.
local function unlisted_generations(listed)
  local is_listed = {}
  for _, gen in ipairs(listed) do is_listed[gen.name] = true end
  local found, counts = {}, redis.call('HGETALL', owners_key)
  for i = 1, #counts, 2 do
    local name = string.match(counts[i], '^(%d+):buckets$')
    if name and not is_listed[name] then
      local width = window_in_0_1(tonumber(name), tonumber(counts[i + 1]))
      found[#found + 1] = numbered(tonumber(name), width or 0) -- 0: it is over since 1970
    end
  end
  return found
end

-- Set when a generation is forgotten, together with the IDs that it has.
local function forget_at(gen, time)
  gen.forgotten = time
  local buckets = redis.call('HGET', owners_key, gen.name .. ':buckets') or 0
  for bucket = 0, buckets - 1 do
    redis.call('EXPIREAT', owners_key .. ':' .. gen.name .. ':' .. bucket, time)
  end
end

-- Return the next generation. This worker's window counts for it, unless more than one generation
-- of larger windows would then still be remembered at its end. So a look-up never asks more than
-- three, however often the window is changed.
local function next_generation(others, now)
  local next_one, remembered = numbered(math.floor(now / window), window), 0
  for _, gen in ipairs(others) do
    if gen.forgotten > next_one.ends then remembered = remembered + 1 end
  end
  if remembered > 1 then
    local width = others[1].window
    next_one = numbered(math.floor(now / width), width)
  end
  for _, gen in ipairs(others) do
    -- By chance, the numbers of two windows can be equal.
    if gen.name == next_one.name and gen.window ~= next_one.window then
      next_one.name = next_one.name .. 'w' .. string.format('%.0f', next_one.window)
    end
  end
  return next_one
end

-- Write a list of generations, and delete the counts of those that are forgotten.
local function write_list(list, gens, forgotten)
  local words = {}
  for i, gen in ipairs(gens) do
    words[i] = string.format('%s %.0f %.0f %.0f', gen.name, gen.window, gen.ends, gen.forgotten)
  end
  if #words > 0 then
    redis.call('HSET', owners_key, list, table.concat(words, ','))
  else
    redis.call('HDEL', owners_key, list)
  end
  for _, gen in ipairs(forgotten) do
    redis.call('HDEL', owners_key, gen.name .. ':buckets', gen.name .. ':size')
  end
end

-- Write a list of generations. All of it expires with the last of these and of the `others`, which
-- are in another list.
local function write_generations(list, gens, forgotten, others)
  local last = 0
  for _, gen in ipairs(gens) do last = math.max(last, gen.forgotten) end
  for _, gen in ipairs(others) do last = math.max(last, gen.forgotten) end
  write_list(list, gens, forgotten)
  redis.call('EXPIREAT', owners_key, last)
end

-- Open a generation; return those that are remembered from now on, this one first.
local function open_next(opened, gens, forgotten)
  local remembered = { opened }
  for _, gen in ipairs(gens) do
    if gen.name == opened.name then
      -- It was the current one before, and Redis' clock was set back meanwhile.
      if gen.forgotten ~= opened.forgotten then forget_at(gen, opened.forgotten) end
    else
      local into = #remembered < MOST_GENERATIONS and remembered or forgotten
      into[#into + 1] = gen
    end
  end
  return remembered
end

-- Return whether a generation collects what comes now. Where Redis' clock was set back by less than
-- a window, the current one stays.
local function is_current(gen, now)
  return gen and gen.ends - 2 * gen.window <= now and now < gen.ends
    and gen.forgotten == gen.ends + gen.window
end

-- Where Redis' clock was set back by more than a window, nothing is forgotten now, but no
-- generation is remembered for longer than two of its windows from now on. Return whether one was.
local function heed_clock_set_back(gens, now)
  local was_set_back = false
  for _, gen in ipairs(gens) do
    local latest = now + 2 * gen.window
    if gen.forgotten > latest then
      forget_at(gen, latest)
      was_set_back = true
    end
  end
  return was_set_back
end

-- Return the generations of a list that are remembered, the current one first. `apart` are those of
-- sources with a window of their own.
local function current_generations(text, now, apart)
  local listed, gens, forgotten = listed_generations(text), {}, {}
  sort_out(listed, now, gens, forgotten)
  if is_current(gens[1], now) then return gens end
  sort_out(unlisted_generations(listed), now, gens, forgotten)
  table.sort(gens, function(a, b) return a.ends > b.ends end)
  heed_clock_set_back(gens, now)
  if not is_current(gens[1], now) then
    gens = open_next(next_generation(gens, now), gens, forgotten)
  end
  write_generations('generations', gens, forgotten, apart)
  return gens
end
