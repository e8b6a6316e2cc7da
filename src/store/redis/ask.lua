-- One reading command on one key of a partition that exists: from one that is lost, nothing is read as empty.
--
-- KEYS: meta, the key. ARGV: the command, and a list of what stands behind the key.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
return { 'answer', redis.call(argument(), KEYS[2], arguments(number())) }
