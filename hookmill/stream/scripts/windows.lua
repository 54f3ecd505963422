-- Says in which generations the IDs of sources with a dedup window of their own are recorded. A part
-- of owners.lua.
--
-- A receiver that knows such a window writes it into the field `window` of the message (seconds),
-- because workers have no table of sources. The IDs of all sources with the same window share
-- generations that are apart from those of the workers' window: a generation is forgotten as a
-- whole, so all that is in one has the same window. They are made, numbered and expire as the others,
-- with `s` and the window in their names, and are in a list of their own, the field `windows`. So a
-- worker of an older release does not take them for its own.
--
-- The window of a message decides only where its ID is recorded, which is for how long it is
-- remembered. It is looked up in all generations that are remembered, of whatever window. So:
-- * where a source's window is made longer or shorter, or is taken away, or where two receivers have
--   different ones, what was recorded is known for as long as was promised then, and each message is
--   recorded for as long as its own window says;
-- * a message that lost its field (the spool's, or one that a receiver wrote beside older workers)
--   is recorded for the workers' window. That is longer: the settings refuse a source's window that
--   is longer than HOOKMILL_DEDUP_WINDOW;
-- * where Redis loses the list, or all of it, that is as with the other generations: what was in
--   them is forgotten, and new ones are opened.
--
-- Each look-up costs time, so there are few such windows at a time. Where one more comes, the
-- next longer one that is there already takes its messages.
--
-- A worker of release 0.1 looks up in its own generations only. So receivers write the field only
-- while every worker reads wire version 3, and such a worker cannot read that.
-- Needs: `owners_key` and `now_ms`, set before the include.

local MOST_WINDOWS = 4 -- so many may hookmill.toml name (hookmill/config/windows.py)

-- Return the generations of the list that are remembered, the newest first of each window.
local function generations_apart(text, now)
  local gens, forgotten = {}, {}
  sort_out(listed_generations(text), now, gens, forgotten)
  if heed_clock_set_back(gens, now) or #forgotten > 0 then
    write_list('windows', gens, forgotten) -- it may expire too late, but not too early
  end
  return gens
end

-- Return the window under which an ID is recorded that asks for `width`. `main` is the current
-- generation of the workers' window.
local function window_for(width, apart, main)
  if width == main.window then return width end
  local others, several, best = {}, 0, nil
  for _, gen in ipairs(apart) do
    if gen.window == width then return width end
    if not others[gen.window] then several = several + 1 end
    others[gen.window] = true
  end
  if several < MOST_WINDOWS then return width end
  others[main.window] = true
  for other in pairs(others) do
    if other >= width and (not best or other < best) then best = other end
  end
  return best or width -- never a shorter one
end

-- Return the current generation of a window, and all that are remembered apart. `mains` are the
-- generations of the workers' window.
local function current_apart(width, apart, mains)
  local now, same, others, forgotten = math.floor(now_ms / 1000), {}, {}, {}
  for _, gen in ipairs(apart) do
    local into = gen.window == width and same or others
    into[#into + 1] = gen
  end
  if is_current(same[1], now) then return same[1], apart end
  local opened = numbered(math.floor(now / width), width)
  opened.name = opened.name .. 's' .. string.format('%.0f', width)
  same = open_next(opened, same, forgotten)
  local all = {}
  for _, gen in ipairs(same) do all[#all + 1] = gen end
  for _, gen in ipairs(others) do all[#all + 1] = gen end
  write_generations('windows', all, forgotten, mains)
  return same[1], all
end
