#!lua flags=no-writes
-- Which of some commands may the user not send?
--
-- Each is tried with arguments that mean nothing. Redis looks at the user's rights first. Then it
-- refuses the commands that write, because the flag above says that this script does not write.
-- A server that does not know the flag would write, so that is found out first.
--
-- KEYS  1 a key that is never there
-- ARGV  the commands, such as GET or XINFO GROUPS
-- Reply the commands that the user may not send

local function fault_of(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err or ''
end

local function is_refused(fault)
  return string.find(fault, 'permission') or string.find(fault, "can't run this command")
end

-- Both change nothing, even where they are carried out.
local faults = {
  fault_of('XADD', KEYS[1], 'NOMKSTREAM', '*', 'probe', ''),
  fault_of('DEL', KEYS[1]),
}
local is_safe = false
for _, fault in ipairs(faults) do
  if string.find(fault, 'read%-only script') then is_safe = true end
end

local refused = {}
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word end
  if not is_safe then
    if command == 'XADD' and is_refused(faults[1]) or command == 'DEL' and is_refused(faults[2]) then
      refused[#refused + 1] = command
    end
  else
    local fault = fault_of(unpack(words))
    -- The number of arguments is judged before the rights.
    while string.find(fault, 'rong number of arg') and #words < 12 do
      words[#words + 1] = KEYS[1]
      fault = fault_of(unpack(words))
    end
    if is_refused(fault) then refused[#refused + 1] = command end
  end
end
return refused
