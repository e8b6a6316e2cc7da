-- One partition at one instant; from a closed one too.
--
-- KEYS: meta, set, blocks, then the records asked for. ARGV: `all`; or `some`, or `blocks`, and a list of the set's fields.

local CHUNK = 1000 -- `unpack` has room for a few thousand

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end

local now = math.max(clock(), meta.stamp)
local records = {}
for i = 4, #KEYS do records[i - 3] = whole((get(KEYS[i], now))) end

local entries, wanted = {}, argument()
if wanted == 'all' then
  entries = redis.call('HVALS', KEYS[2])
else
  local fields = { arguments(number()) }
  for incarnation in string.gmatch(meta.incarnations, '%d+') do
    fields[#fields + 1] = 'i:' .. incarnation
  end
  if wanted == 'blocks' then
    for _, block in ipairs(redis.call('HVALS', KEYS[3])) do fields[#fields + 1] = block end
  end
  for first = 1, #fields, CHUNK do
    local last = math.min(#fields, first + CHUNK - 1)
    for _, entry in ipairs(redis.call('HMGET', KEYS[2], unpack(fields, first, last))) do
      entries[#entries + 1] = entry
    end
  end
end

return { 'read', meta.open and '1' or '0', text(meta.incarnation), text(meta.stamp), text(now), text(meta.max_exp),
  text(meta.floor), records, entries }
