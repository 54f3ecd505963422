-- Write down what changed in the QStash emulator, if the process still owns these keys.
--
-- KEYS  1 owner, then those that the commands name
-- ARGV  1 token  2 the commands, packed
-- Reply 1, or 0 where another process took over

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for _, command in ipairs(cmsgpack.unpack(ARGV[2])) do
  redis.call(unpack(command))
end
return 1
