-- Makes a store: every partition, or none.
--
-- KEYS: meta, set and events of each partition. ARGV: N, delta_max, stamp, `durable` or `lossy`, the living incarnation's
-- entry, then the event of each partition.

for i = 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return { 'exists', KEYS[i] } end
end

local n, delta_max, stamp, durable, living = text(number()), text(number()), number(), argument(), argument()
for i = 1, #KEYS, 3 do
  begin(KEYS[i], KEYS[i + 1], KEYS[i + 2], {
    stamp = stamp, max_exp = 0, floor = 0, durable = durable, incarnations = ' ', living = living, event = argument(),
  })
  redis.call('HSET', KEYS[i], 'n', n, 'delta_max', delta_max)
end
return { 'made' }
