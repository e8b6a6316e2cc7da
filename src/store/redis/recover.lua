-- Ends the incarnation that the caller saw, and begins another on this server. Where loss is possible everything from before
-- is fenced.
--
-- KEYS: meta, set, events. ARGV: `closed` (an open partition is left alone) or `any`; incarnation and stamp as the caller saw them; the new
-- stamp; `durable` or `lossy`; `fence` or `keep`; the ended incarnation's entry, the living one's, the event.

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end

local which, incarnation, stamp, new = argument(), number(), number(), number()
local durable, fence, ended, living, event = argument(), argument(), argument(), argument(), argument()

if meta.open and which == 'closed' then
  -- Whoever recovers this partition next must know that writes were not safe all the time.
  if durable == 'lossy' and meta.durable ~= durable then redis.call('HSET', KEYS[1], 'durable', durable) end
  return { 'open' }
end
-- Another broker was faster: look again.
if meta.incarnation ~= incarnation or meta.stamp ~= stamp then return { 'moved' } end

-- INVARIANT (end is the last that survived): commits of the old incarnation after `stamp` are lost, and stay dead.
local fenced = fence == 'fence' or durable == 'lossy' or meta.durable ~= 'durable'
begin(KEYS[1], KEYS[2], KEYS[3], {
  stamp = new, max_exp = meta.max_exp, floor = fenced and new or meta.floor, durable = durable,
  incarnations = meta.incarnations, living = living, event = event,
})
redis.call('HSET', KEYS[2], 'i:' .. text(incarnation), header(new, new, meta.max_exp, {}) .. ended)
return { 'recovered', fenced and '1' or '0' }
