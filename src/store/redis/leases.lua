-- Leases of a task, and the partition's present, in milliseconds: each one's id and when it is over, as they were issued; and the
-- names of those that the version before issued, if their time is not over.
--
-- KEYS: meta, the list, the index of the version before.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
local now = text(math.floor(math.max(clock(), meta.stamp) / 1000))
return { 'answer', now, redis.call('LRANGE', KEYS[2], 0, -1), redis.call('ZRANGE', KEYS[3], '(' .. now, '+inf', 'BYSCORE') }
