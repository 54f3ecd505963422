-- Save changes of the QStash emulator, if it still owns these keys.
--
-- KEYS  1 owner, then the keys that the commands use
-- ARGV  1 token  2 the commands, packed
-- Reply 1, or 0 if another process took over

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for _, command in ipairs(cmsgpack.unpack(ARGV[2])) do
  redis.call(unpack(command))
end
return 1
