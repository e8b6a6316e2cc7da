-- One reading command on one key of a partition that exists: from one that is lost, nothing is read as empty.
--
-- KEYS: meta, the key. ARGV: the command, and a list of what stands behind the key.

if not partition(KEYS[1]) then return { 'lost' } end
return { 'answer', redis.call(argument(), KEYS[2], arguments(number())) }
