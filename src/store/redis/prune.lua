-- Drops a chunk of the entries that can hit nothing any more, of the certificates that have expired, and of the old events.
--
-- KEYS: meta, set, events, certificates, their ends. ARGV: now, cursor, events older than this may go, events that stay whatever their age.

local CHUNK = 500

local meta, refusal = partition(KEYS[1])
if not meta then return refusal end
if not meta.open then return { 'closed' } end

local now, cursor, old, kept = number(), argument(), number(), number()

-- No later commit is stamped earlier than the time by which is judged here: what is dropped stays without effect.
if meta.stamp < now then redis.call('HSET', KEYS[1], 'stamp', text(now)) end

local living = 'i:' .. text(meta.incarnation)
local scanned = redis.call('HSCAN', KEYS[2], cursor, 'COUNT', CHUNK)
local names = scanned[2]
for i = 1, #names, 2 do
  local name = names[i]
  local stays = string.sub(name, 1, 2) == 'b:' or name == living
  if not stays and field(names[i + 1], 3) <= now then
    redis.call('HDEL', KEYS[2], name)
    if string.sub(name, 1, 2) == 'i:' then
      -- Each name in the list stands between spaces.
      local rest = string.gsub(meta.incarnations, ' ' .. string.sub(name, 3) .. ' ', ' ', 1)
      meta.incarnations = rest
      redis.call('HSET', KEYS[1], 'incarnations', rest)
    end
  end
end

local length = redis.call('XLEN', KEYS[3])
local spare = math.min(CHUNK, length - kept)
local trimmed = 0
if spare > 0 then
  trimmed = #redis.call('XRANGE', KEYS[3], '-', '(' .. text(old) .. '-0', 'COUNT', spare)
  if trimmed > 0 then redis.call('XTRIM', KEYS[3], 'MAXLEN', text(length - trimmed)) end
end

local ended = redis.call('ZRANGE', KEYS[5], '-inf', text(math.floor(now / 1000000)), 'BYSCORE', 'LIMIT', 0, CHUNK)
for _, stamp in ipairs(ended) do
  redis.call('ZREMRANGEBYSCORE', KEYS[4], stamp, stamp)
  redis.call('ZREM', KEYS[5], stamp)
end

local is_more = trimmed == CHUNK or #ended == CHUNK
return { 'pruned', scanned[1], is_more and 'more' or 'all' }
