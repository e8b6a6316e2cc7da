-- Which store this is: the same number in every partition. One that has none gets one; it lasts as long as the store's data do.
--
-- KEYS: meta of each partition. ARGV: a number that no store has; `keep`, or `anew` where it takes the place of the one that is there.

local new, is_anew = text(number()), argument() == 'anew'
local own
for _, key in ipairs(KEYS) do
  local meta = found(key)
  if not meta then return { 'lost' } end
  local known = not is_anew and meta.identity
  if known and own and known ~= own then return { 'mixed' } end
  own = known or own
end

own = own or new
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'identity') ~= own then redis.call('HSET', key, 'identity', own) end
end
return { 'identity', own }
