-- Writes a decision, if all that it rests on still holds: the picture in src/store/mod.rs, top to bottom.
--
-- Redis does not take back what a failing script wrote. So everything that can fail, or refuse, comes before the first
-- write; the first write is the event, the only one that Redis itself can refuse.
--
-- KEYS: meta, set, events, blocks, then whatever numbers point at; 0 is no key.
-- ARGV: written by src/store/redis/commit.rs in the order in which it is read here. A time that there is not is infinite.

local META, SET, EVENTS, BLOCKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- In front of an answer's body: its version, and the hash of its request.
local REQUEST = 36
-- In front of a fence's counters: version, kind and task id.
local FENCE = 38

local meta = partition(META)
if not meta then return { 'lost' } end
if not meta.open then return { 'closed' } end

local at_least, floor, before, answer_key, answer_is_checked, answer_until, guards, blockable, markable, claimed, ceiling_key,
  entries, writes, is_awaited = numbers('<I8I8I8I8I8I8I8I8I8I8I8I8I8I8')

-- INVARIANT (stamps rise): later than every commit before, whatever the clocks do.
local stamp = math.max(meta.stamp + 1, clock(), at_least)
if stamp >= INFINITY then return { 'exhausted' } end

-- Milliseconds as Redis takes them: not zero, which it refuses, and rounded up.
local function milliseconds(micros)
  return math.max(1, math.ceil(micros / 1000))
end

-- Lets a key that lives until `expires` live until then, never less long than before.
local function keep(key, expires, until_ms)
  if expires < until_ms then redis.call('PEXPIREAT', key, text(until_ms)) end
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
local answer, answered = { key = KEYS[answer_key], tail = '' }, false
if answer.key then
  answer.body = argument()
  answered = get(answer.key, stamp)
end

-- Writes the same answer again, so that a wait for replicas covers the first write too.
local function replayed()
  redis.call('SET', answer.key, answered, 'KEEPTTL')
  return { 'replayed', answered }
end

if answered then
  if string.sub(answered, HEADER + 1, HEADER + REQUEST) ~= string.sub(answer.body, 1, REQUEST) then
    return { 'reused' }
  end
  if answer_is_checked == 0 then return replayed() end
end

-- versions
local stale = floor ~= INFINITY and floor ~= meta.floor
local guarded = {}
for i = 1, guards do
  local key, lasts = numbers('<I8I8')
  guarded[i] = KEYS[key]
  local known = redis.call('GETRANGE', KEYS[key], 0, 8)
  if known ~= '' and lasts == 0 and not stands(redis.call('PEXPIRETIME', KEYS[key]), stamp) then known = '' end
  if known ~= argument() then stale = true end
end
if stale then
  local fresh = {}
  for i, key in ipairs(guarded) do fresh[i] = get(key, stamp) end
  return { 'stale', fresh }
end

-- due
if stamp >= before then return { 'overdue' } end

-- blocks
if blockable > 0 then
  for _, block in ipairs(redis.call('HMGET', SET, arguments(blockable))) do
    if block and block_count(block, HEADER + 1) % 2 == 1 then return { 'quarantined' } end
  end
end

-- watermarks
if markable > 0 then
  local incarnation, committed = numbers('<I8I8')
  for _, mark in ipairs(redis.call('HMGET', SET, arguments(markable))) do
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

-- claims
local claims = {}
for i = 1, claimed do
  local key, keep_until = numbers('<I8I8')
  local refusal = argument()
  local claim = { key = KEYS[key], keep_until = keep_until, body = argument() }
  claim.known, claim.expires = get(claim.key, stamp)
  if claim.known and string.sub(claim.known, HEADER + 1) ~= claim.body then return { refusal } end
  claims[i] = claim
end

if answered then return replayed() end

-- INVARIANT (expiry bounded): as domain::clamp::clamp, which is tested beside this.
local times, ceiling = {}, nil
if ceiling_key > 0 then
  local keep_until, incarnation, committed, minimum, limits = numbers('<I8I8I8I8I8')
  ceiling = { key = KEYS[ceiling_key], keep_until = keep_until, body = argument() }
  ceiling.known, ceiling.expires = get(ceiling.key, stamp)
  times.first_issue = ceiling.known and field(ceiling.known, 6) or stamp
  -- A lease's first credential is the one that knows of none before.
  times.lease_incarnation = incarnation < INFINITY and incarnation or meta.incarnation
  times.lease_stamp = committed < INFINITY and committed or stamp
  -- Limits count from 1970, from now, or from first issue.
  local from = { 0, math.floor(stamp / 1000000), math.floor(times.first_issue / 1000000) }
  for _ = 1, limits do
    local clamp, origin, seconds = numbers('<I8I8I8')
    local expires = from[origin] + seconds
    if not times.expires or expires < times.expires then
      times.expires, times.clamp = expires, clamp
    end
  end
  local left = math.max(0, (times.expires or 0) - from[2])
  if left < math.max(minimum, 1) then
    return { 'too short', text(times.clamp or 0), text(left) }
  end
end

-- Nothing refuses from here on.
local max_exp = meta.max_exp
if times.expires then max_exp = math.max(max_exp, math.min(INFINITY, times.expires * 1000000)) end
local plain = header(stamp, meta.incarnation, max_exp, {})
local timed = header(stamp, meta.incarnation, max_exp, times)

local event, name = argument(), text(stamp)
if event ~= '' then redis.call('XADD', EVENTS, name .. '-0', 'v', plain .. event) end
redis.call('HSET', META, 'stamp', name)
if max_exp > meta.max_exp then redis.call('HSET', META, 'max_exp', text(max_exp)) end

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

for _ = 1, entries do
  local how, name, body = argument(), argument(), argument()
  local known = redis.call('HGET', SET, name)
  -- Blocks are never dropped, and have a list of their own, so that nobody reads the whole set for them.
  if how == 'block' and not known then redis.call('HSET', BLOCKS, name, name) end
  redis.call('HSET', SET, name, known and merge[how](known, body) or plain .. body)
end

local function put(key, value, keep_until)
  redis.call('SET', key, value, 'PXAT', text(milliseconds(keep_until)))
end

local write = {}

function write.task()
  local key, by_due, by_name, due, is_ended = numbers('<I8I8I8I8I8')
  local id = argument()
  if is_ended == 1 then due = math.max(due, max_exp) end
  redis.call('SET', KEYS[key], plain .. argument())
  redis.call('ZADD', KEYS[by_due], text(due), id)
  redis.call('ZADD', KEYS[by_name], 0, id)
end

function write.lease()
  local key, index, kept, is_answered = numbers('<I8I8I8I8')
  local id, body = argument(), argument()
  local shown = math.min(INFINITY, times.expires * 1000000 + kept)
  put(KEYS[key], timed .. body, shown)
  index, shown = KEYS[index], milliseconds(shown)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', text(math.floor(stamp / 1000)))
  redis.call('ZADD', index, text(shown), id)
  keep(index, redis.call('PEXPIRETIME', index), shown)
  -- The answer about a lease ends with the lease.
  if is_answered == 1 then answer.tail = body end
end

-- Stays until it is written again.
function write.lasting()
  redis.call('SET', KEYS[number()], plain .. argument())
end

-- One that lives no longer than `unlisted` is never on a revocation list.
function write.certificate()
  local by_stamp, by_end, unlisted = numbers('<I8I8I8')
  local body = argument()
  if times.expires - math.floor(stamp / 1000000) <= unlisted then return end
  redis.call('ZADD', KEYS[by_stamp], name, timed .. body)
  redis.call('ZADD', KEYS[by_end], text(times.expires), name)
end

function write.drop()
  local key, answer_of, by_due, by_name = numbers('<I8I8I8I8')
  redis.call('DEL', KEYS[key], KEYS[answer_of])
  local id = argument()
  redis.call('ZREM', KEYS[by_due], id)
  redis.call('ZREM', KEYS[by_name], id)
end

for _ = 1, writes do write[argument()]() end

for _, claim in ipairs(claims) do
  if claim.known then
    keep(claim.key, claim.expires, milliseconds(claim.keep_until))
  else
    put(claim.key, plain .. claim.body, claim.keep_until)
  end
end

if ceiling and ceiling.known then
  keep(ceiling.key, ceiling.expires, milliseconds(ceiling.keep_until))
elseif ceiling then
  local first = header(stamp, meta.incarnation, max_exp, { first_issue = times.first_issue })
  put(ceiling.key, first .. ceiling.body, ceiling.keep_until)
end

if answer.key then
  local value = timed .. answer.body .. answer.tail
  if answer_until < INFINITY then
    put(answer.key, value, answer_until)
  else
    redis.call('SET', answer.key, value)
  end
end

if is_awaited == 1 then announce(EVENTS) end

if not ceiling then return { 'done', struct.pack('<I8I8', meta.incarnation, stamp) } end
return { 'done', struct.pack('<I8I8I8I8I8I8I8', meta.incarnation, stamp, times.first_issue, times.lease_incarnation,
  times.lease_stamp, times.expires, times.clamp) }
