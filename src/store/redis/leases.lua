-- Leases of a task whose time is not over, in no order that matters.
--
-- KEYS: meta, the index.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
local now = math.floor(math.max(clock(), meta.stamp) / 1000)
return { 'answer', redis.call('ZRANGE', KEYS[2], '(' .. text(now), '+inf', 'BYSCORE') }
