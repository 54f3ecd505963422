-- Write down what changed in QStash's stand-in, if these keys are still its own.
--
-- KEYS  1 owner, then those that the commands name
-- ARGV  1 token  2 the commands, packed
-- Reply 1, or 0 where somebody else took over

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for _, command in ipairs(cmsgpack.unpack(ARGV[2])) do
  redis.call(unpack(command))
end
return 1
