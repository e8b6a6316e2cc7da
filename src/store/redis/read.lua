-- One partition at one instant; from a closed one too.
--
-- KEYS: meta, set, then the records asked for. ARGV: `all`, or `some` and a list of the set's fields.

local meta = partition(KEYS[1])
if not meta then return { 'lost' } end

local now = math.max(clock(), meta.stamp)
local records = {}
for i = 3, #KEYS do records[i - 2] = get(KEYS[i], now) end

local entries
if argument() == 'all' then
  entries = redis.call('HVALS', KEYS[2])
else
  local fields = { arguments(number()) }
  for incarnation in string.gmatch(meta.incarnations, '%d+') do
    fields[#fields + 1] = 'i:' .. incarnation
  end
  entries = redis.call('HMGET', KEYS[2], unpack(fields))
end

return { 'read', meta.open and '1' or '0', text(meta.incarnation), text(meta.stamp), text(now), text(meta.max_exp),
  text(meta.floor), records, entries }
