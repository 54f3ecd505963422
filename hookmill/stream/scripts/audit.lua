-- Record what an operator does. The oldest records go when there are too many.
--
-- KEYS  1 audit
-- ARGV  1 how many records are kept at least, then the fields: names and values in turn
-- Reply the ID of the record

return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
