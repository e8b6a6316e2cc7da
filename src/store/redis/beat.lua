-- Writes a broker's record over its earlier one.
--
-- KEYS: meta of partition 0, the registry. ARGV: the broker's instance, its record.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
if not meta.open then return { 'closed' } end

local instance, record = argument(), argument()
redis.call('HSET', KEYS[2], instance, record)
announce(KEYS[2])
return { 'beat', text(meta.incarnation) }
