-- Removes a broker's record if it still is the one that the caller saw.
--
-- KEYS: meta of partition 0, the registry. ARGV: the broker's instance, the record.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
if not meta.open then return { 'closed' } end

local instance, record = argument(), argument()
if redis.call('HGET', KEYS[2], instance) ~= record then return { 'moved' } end
redis.call('HDEL', KEYS[2], instance)
announce(KEYS[2])
return { 'forgotten' }
