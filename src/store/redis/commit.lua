-- Writes a decision, if all that it rests on still holds: the picture in src/store/mod.rs, top to bottom.
--
-- Redis does not take back what a failing script wrote. So everything that can fail, or refuse, comes before the first
-- write; the first write is the event, the only one that Redis itself can refuse.
--
-- KEYS: meta, set, events, due, tasks, then whatever arguments point at by number.
-- ARGV: written by src/store/redis/commit.rs in the order in which it is read here.

local META, SET, EVENTS, DUE, TASKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- In front of an answer's body: its version, and the hash of its request.
local REQUEST = 36
-- In front of a fence's counters: version, kind and task id.
local FENCE = 38

local meta = partition(META)
if not meta then return { 'lost' } end
if not meta.open then return { 'closed' } end

-- Milliseconds as Redis takes them: not zero, which it refuses, and rounded up.
local function milliseconds(micros)
  return text(math.max(1, math.ceil(micros / 1000)))
end

-- INVARIANT (stamps rise): later than every commit before, whatever the clocks do.
local stamp = math.max(meta.stamp + 1, clock(), number())
if stamp >= INFINITY then return { 'exhausted' } end

-- Lets a key live until then, never less long than before.
local function keep(key, until_ms)
  if redis.call('PEXPIRETIME', key) < tonumber(until_ms) then
    redis.call('PEXPIREAT', key, until_ms)
  end
end

-- A varint of a stored message, and where the next field begins.
local function varint(value, at)
  local number, factor = 0, 1
  while true do
    local byte = string.byte(value, at)
    at = at + 1
    number = number + (byte % 128) * factor
    if byte < 128 then return number, at end
    factor = factor * 128
  end
end

local function to_varint(number)
  local bytes = ''
  while number >= 128 do
    bytes = bytes .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- A count of zero is not written out: the message ends with the scope.
local function block_count(value, body)
  local length, scope = varint(value, body + 5)
  if scope + length > #value then return 0 end
  return (varint(value, scope + length + 1))
end

local function fence_counters(value, body)
  local epoch, branch = varint(value, body + FENCE + 1)
  return epoch, (varint(value, branch + 1))
end

-- replay
local replay = { key = KEYS[number()], checked = argument() == 'checked', keep_until = argument(), body = argument() }
local answered = replay.key and get(replay.key, stamp)

-- Writes the same answer again, so that a wait for replicas covers the first write too.
local function replayed()
  redis.call('SET', replay.key, answered, 'KEEPTTL')
  return { 'replayed', answered }
end

if answered then
  if string.sub(answered, HEADER + 1, HEADER + REQUEST) ~= string.sub(replay.body, 1, REQUEST) then
    return { 'reused' }
  end
  if not replay.checked then return replayed() end
end

-- versions
local stale = false
local floor = argument()
if floor ~= '' and tonumber(floor) ~= meta.floor then stale = true end
local guarded = {}
for i = 1, number() do
  local key, lasts, version = KEYS[number()], argument() == 'lasts', argument()
  guarded[i] = key
  local known = redis.call('GETRANGE', key, 0, 8)
  if known ~= '' and not lasts and not stands(key, stamp) then known = '' end
  if known ~= version then stale = true end
end
if stale then
  local fresh = {}
  for i, key in ipairs(guarded) do fresh[i] = get(key, stamp) end
  return { 'stale', fresh }
end

-- due
local before = argument()
if before ~= '' and stamp >= tonumber(before) then return { 'overdue' } end

-- blocks
local blockable = list()
if #blockable > 0 then
  for _, block in ipairs(redis.call('HMGET', SET, unpack(blockable))) do
    if block and block_count(block, HEADER + 1) % 2 == 1 then return { 'quarantined' } end
  end
end

-- watermarks
local markable = list()
if #markable > 0 then
  local incarnation, committed = number(), number()
  for _, mark in ipairs(redis.call('HMGET', SET, unpack(markable))) do
    if mark then
      local marked = field(mark, 2)
      if marked > incarnation or (marked == incarnation and field(mark, 1) >= committed) then
        return { 'quarantined' }
      end
    end
  end
end

-- lease
local lease = argument()
if lease ~= '' and redis.call('HEXISTS', SET, lease) == 1 then return { 'lease over' } end

-- claimed keys
local claims = {}
for i = 1, number() do
  local claim = { key = KEYS[number()], keep_until = argument(), body = argument() }
  local claimed = get(claim.key, stamp)
  if claimed and string.sub(claimed, HEADER + 1) ~= claim.body then return { 'key claimed' } end
  claim.new = not claimed
  claims[i] = claim
end

if answered then return replayed() end

-- INVARIANT (expiry bounded): as domain::clamp::clamp, which is tested beside this.
local times, ceiling = {}, nil
if argument() == 'times' then
  ceiling = { key = KEYS[number()], keep_until = argument(), body = argument() }
  ceiling.known = get(ceiling.key, stamp)
  times.first_issue = ceiling.known and field(ceiling.known, 6) or stamp
  times.lease_incarnation = tonumber(argument()) or meta.incarnation
  times.lease_stamp = tonumber(argument()) or stamp
  local minimum, issued = number(), math.floor(stamp / 1000000)
  local from = { after = issued, at = 0, first = math.floor(times.first_issue / 1000000) }
  for _ = 1, number() do
    local clamp, kind, seconds = number(), argument(), number()
    local expires = from[kind] + seconds
    if not times.expires or expires < times.expires then
      times.expires, times.clamp = expires, clamp
    end
  end
  local left = math.max(0, (times.expires or 0) - issued)
  if left < math.max(minimum, 1) then
    return { 'too short', text(times.clamp or 0), text(left) }
  end
end

-- Nothing refuses from here on.
local max_exp = meta.max_exp
if times.expires then max_exp = math.max(max_exp, math.min(INFINITY, times.expires * 1000000)) end
local plain = header(stamp, meta.incarnation, max_exp, {})
local timed = header(stamp, meta.incarnation, max_exp, times)

local event = argument()
if event ~= '' then redis.call('XADD', EVENTS, text(stamp) .. '-0', 'v', plain .. event) end
redis.call('HSET', META, 'stamp', text(stamp), 'max_exp', text(max_exp))

-- INVARIANT (lattice monotone): an entry is merged upward with the one that stands. Stamps rise, so the later watermark is the
-- higher one, and a lease's entry is the same but for a later `keep_until`.
local merge = {}

function merge.replace(_, body)
  return plain .. body
end

function merge.block(known, body)
  if block_count(known, HEADER + 1) >= block_count(body, 1) then return known end
  return plain .. body
end

function merge.fence(known, body)
  local known_epoch, known_branch = fence_counters(known, HEADER + 1)
  local epoch, branch = fence_counters(body, 1)
  return plain .. string.sub(body, 1, FENCE) .. '\96' .. to_varint(math.max(known_epoch, epoch))
    .. '\104' .. to_varint(math.max(known_branch, branch))
end

for _ = 1, number() do
  local how, name, body = argument(), argument(), argument()
  local known = redis.call('HGET', SET, name)
  redis.call('HSET', SET, name, known and merge[how](known, body) or plain .. body)
end

local write = {}

function write.task()
  local key, id, due, ended, body = KEYS[number()], argument(), number(), argument() == 'ended', argument()
  if ended then due = math.max(due, max_exp) end
  redis.call('SET', key, plain .. body)
  redis.call('ZADD', DUE, text(due), id)
  redis.call('ZADD', TASKS, 0, id)
end

function write.lease()
  local key, index, id, kept, body = KEYS[number()], KEYS[number()], argument(), number(), argument()
  local shown = milliseconds(math.min(INFINITY, times.expires * 1000000 + kept))
  redis.call('SET', key, timed .. body, 'PXAT', shown)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', text(math.floor(stamp / 1000)))
  redis.call('ZADD', index, shown, id)
  keep(index, shown)
end

function write.keyring()
  redis.call('SET', KEYS[number()], plain .. argument())
end

function write.drop()
  redis.call('DEL', KEYS[number()], KEYS[number()])
  local id = argument()
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', TASKS, id)
end

for _ = 1, number() do write[argument()]() end

local function put(key, value, keep_until)
  redis.call('SET', key, value, 'PXAT', milliseconds(tonumber(keep_until)))
end

for _, claim in ipairs(claims) do
  if claim.new then
    put(claim.key, plain .. claim.body, claim.keep_until)
  else
    keep(claim.key, milliseconds(tonumber(claim.keep_until)))
  end
end

if ceiling and ceiling.known then
  keep(ceiling.key, milliseconds(tonumber(ceiling.keep_until)))
elseif ceiling then
  local first = header(stamp, meta.incarnation, max_exp, { first_issue = times.first_issue })
  put(ceiling.key, first .. ceiling.body, ceiling.keep_until)
end

if replay.key and replay.keep_until ~= '' then
  put(replay.key, timed .. replay.body, replay.keep_until)
elseif replay.key then
  redis.call('SET', replay.key, timed .. replay.body)
end

if not ceiling then return { 'done', text(meta.incarnation), text(stamp) } end
return { 'done', text(meta.incarnation), text(stamp), text(times.first_issue), text(times.lease_incarnation),
  text(times.lease_stamp), text(times.expires), text(times.clamp) }
