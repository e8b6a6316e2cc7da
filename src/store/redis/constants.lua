-- What a store was made with, before it is known which store it is.
--
-- KEYS: meta of partition 0.

if not found(KEYS[1]) then return { 'lost' } end
return { 'constants', redis.call('HMGET', KEYS[1], 'n', 'delta_max') }
