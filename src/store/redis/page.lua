-- One partition at one instant, and its events from where a reader stands; from a closed one too.
--
-- KEYS: meta, events. ARGV: the stamp of the reader's event, or infinity; how many events at most, that one among them.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end

local at, most = numbers('<I8I8')
local events, head = {}, {}
if at < INFINITY then events = redis.call('XRANGE', KEYS[2], text(at) .. '-0', '+', 'COUNT', text(most)) end
-- Where all that follow were read, the newest is among them.
if #events == 0 or #events == most then head = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', '1') end

return { 'page', meta.open and '1' or '0', text(meta.incarnation), text(meta.stamp), text(math.max(clock(), meta.stamp)),
  text(meta.max_exp), text(meta.floor), events, head }
