-- Writes a decision, if all that it rests on still holds: the picture in src/store/mod.rs, top to bottom.
--
-- Redis does not take back what a failing script wrote. So everything that can fail, or refuse, comes before the first
-- write; the first write is the event, the only one that Redis itself can refuse.
--
-- KEYS: meta, set, events, blocks, then whatever numbers point at; 0 is no key.
-- ARGV: written by src/store/redis/commit.rs in the order in which it is read here. A time that there is not is infinite.

local META, SET, EVENTS, BLOCKS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
-- In front of an answer's body: its version, and the hash of its request; that alone is its second part.
local REQUEST, HASH = 36, 5
-- Behind the terms' name in a lease: the hash of the request that it was issued for, behind its tag and length.
local LEASE_REQUEST, TAG = 31, '\130\2\32'
-- Of a lease in its task's list: the id, and a time of 8 bytes. Of those in front of the list so many at a time are looked at.
local LEASE_ID, LOOKED_AT = 16, 2
-- The fields of a header that an event has: stamp, incarnation and keep_until.
local EVENT_HEADER = 27
-- In front of a fence's counters: version, kind and task id.
local FENCE = 38

local meta, refusal = partition(META)
if not meta then return refusal end
if not meta.open then return { 'closed' } end

local at_least, floor, before, answer_key, answer_is_checked, answer_until, answer_is_lease, guards, blockable, markable, claimed,
  ceiling_key, entries, writes, is_awaited = numbers('<I8I8I8I8I8I8I8I8I8I8I8I8I8I8I8')

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
--
-- The answer has a record of its own, or is the lease that was issued for the request: its key is declared next.
local answer, answered = { key = KEYS[answer_key], lease = KEYS[answer_key + 1], tail = '' }, false
local word
if answer.key then
  answer.body = argument()
  answered = get(answer.key, stamp)
  word, answer.found = 'replayed', answer.key
  if not answered then
    answered = get(answer.lease, stamp)
    word, answer.found = 'replayed lease', answer.lease
    if answered and string.sub(answered, LEASE_REQUEST, LEASE_REQUEST + #TAG - 1) ~= TAG then answered = false end
  end
end

-- Writes the same answer again, so that a wait for replicas covers the first write too.
local function replayed()
  redis.call('SET', answer.found, answered, 'KEEPTTL')
  return { word, whole(answered) }
end

if answered then
  local same
  if word == 'replayed' then
    same = string.sub(answered, HEADER + 1, HEADER + REQUEST) == string.sub(answer.body, 1, REQUEST)
  else
    local hash = LEASE_REQUEST + #TAG
    same = string.sub(answered, hash, hash + REQUEST - HASH) == string.sub(answer.body, HASH, REQUEST)
  end
  if not same then return { 'reused' } end
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
  for i, key in ipairs(guarded) do fresh[i] = whole((get(key, stamp))) end
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
      -- One that lasts is a signing key's, and kills whatever the key signs.
      if field(mark, 3) == INFINITY or marked > incarnation or (marked == incarnation and field(mark, 1) >= committed) then
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
local lasting = header(stamp, meta.incarnation, INFINITY, {})

local event, name = argument(), text(stamp)
if event ~= '' then redis.call('XADD', EVENTS, name .. '-0', 'v', string.sub(plain, 1, EVENT_HEADER) .. event) end
redis.call('HSET', META, 'stamp', name)
if max_exp > meta.max_exp then redis.call('HSET', META, 'max_exp', text(max_exp)) end

-- INVARIANT (lattice monotone): an entry is merged upward with the one that stands. Stamps rise, so the later watermark is the
-- higher one, and a lease's entry is the same but for a later `keep_until`.
local merge = {}

function merge.replace(_, body)
  return plain .. body
end

-- Dropped never: what it hits can claim any expiry.
function merge.lasting(_, body)
  return lasting .. body
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
  local is_merged = known or how == 'lasting'
  redis.call('HSET', SET, name, is_merged and merge[how](known, body) or plain .. body)
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

-- The times of a lease, behind its own bytes: those that say what its stamp does not.
local function lease_times()
  local said = struct.pack('<BI8BI8BI8', 0x11, meta.incarnation, 0x21, times.expires, 0x29, times.clamp)
  if times.first_issue ~= stamp then said = said .. struct.pack('<BI8', 0x31, times.first_issue) end
  if times.lease_incarnation ~= meta.incarnation or times.lease_stamp ~= stamp then
    said = said .. struct.pack('<BI8BI8', 0x39, times.lease_incarnation, 0x41, times.lease_stamp)
  end
  return said
end

-- Adds to the list of a task's leases. One comes and two may go, never many at a time. One that is over stays until those before it
-- are, so there are at most as many as are issued in the longest time that a credential of the task lasts.
local function enlist(list, id, until_ms)
  local over = 0
  for _, entry in ipairs(redis.call('LRANGE', list, 0, LOOKED_AT - 1)) do
    if struct.unpack('<I8', entry, LEASE_ID + 1) * 1000 > stamp then break end
    over = over + 1
  end
  if over > 0 then redis.call('LTRIM', list, over, -1) end
  redis.call('RPUSH', list, id .. struct.pack('<I8', until_ms))
  keep(list, redis.call('PEXPIRETIME', list), until_ms)
end

function write.lease()
  local key, list, terms_key, kept = numbers('<I8I8I8I8')
  local id, own, terms = argument(), argument(), argument()
  local over = math.min(INFINITY, times.expires * 1000000 + kept)
  put(KEYS[key], struct.pack('<BI8', 0x09, stamp) .. own .. lease_times(), over)
  -- INVARIANT (terms outlast): they are kept longer than every lease that names them.
  local shown = milliseconds(over)
  if redis.call('PEXPIRETIME', KEYS[terms_key]) <= shown then put(KEYS[terms_key], terms, over + kept) end
  enlist(KEYS[list], id, shown)
  answer.tail = terms .. own
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

if answer.key and answer_is_lease == 0 then
  -- An answer about a lease ends with the lease.
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
