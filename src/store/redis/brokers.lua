-- The registry: one broker's record, or every one's. Not while the partition is closed: what its server lost may be among them.
--
-- KEYS: meta of partition 0, the registry. ARGV: a broker's instance; empty: every one's.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
if not meta.open then return { 'closed' } end

local instance = argument()
local records = instance == '' and redis.call('HVALS', KEYS[2]) or redis.call('HMGET', KEYS[2], instance)
return { 'brokers', text(meta.incarnation), records }
