-- Stands in front of every script: numbers, headers, and the record of a partition.
-- Lua's numbers are doubles: stamps are exact below 2^53, and are written with %.0f, since tostring rounds them.

local INFINITY = 9007199254740991 -- 2^53 - 1
local HEADER = 72                 -- bytes in front of every body: eight fields, each one byte of tag and a fixed64

local function text(number)
  return string.format('%.0f', number)
end

-- Fields 1 to 8 of every stored message, which concatenate and merge with the body behind them. The stamp comes first.
local function header(stamp, incarnation, keep_until, times)
  return struct.pack('<BI8BI8BI8BI8BI8BI8BI8BI8', 0x09, stamp, 0x11, incarnation, 0x19, keep_until,
    0x21, times.expires or 0, 0x29, times.clamp or 0, 0x31, times.first_issue or 0,
    0x39, times.lease_incarnation or 0, 0x41, times.lease_stamp or 0)
end

-- A field of a stored value's header, by its number.
local function field(value, number)
  return (struct.unpack('<I8', value, 9 * number - 7))
end

-- Arguments are read in the order in which they were passed: numbers, eight bytes each in the first one, and texts behind it.
local NUMBERS = ARGV[1]
local position, packed = 1, 1

local function argument()
  position = position + 1
  return ARGV[position]
end

-- So many texts, one after the other.
local function arguments(count)
  local first = position + 1
  position = position + count
  return unpack(ARGV, first, position)
end

-- As many numbers as the format has `I8`, behind its `<`.
local function numbers(format)
  local first = packed
  packed = packed + 4 * (#format - 1)
  return struct.unpack(format, NUMBERS, first)
end

local function number()
  local value = numbers('<I8')
  return value
end

-- The server that this script runs on, for as long as it stays the primary that it is: its replication id, 40 hex digits.
--
-- INVARIANT (one server): a primary draws that id at random when it starts, whatever it loads, and when it is promoted. A
-- replica has its primary's, so it has no name of its own here: what runs there is closed. The id of the process says
-- nothing more, and is in a section that takes as long again to write out.
local function server()
  local info = redis.call('INFO', 'replication')
  if not string.find(info, '\nrole:master\r', 1, true) then return nil end
  -- Plain search, since a pattern is tried at every byte.
  local _, at = string.find(info, '\nmaster_replid:', 1, true)
  return at and string.sub(info, at + 1, at + 40)
end

-- The store's clock, in microseconds.
local function clock()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- Whether a key's time, in milliseconds, is not over at `now`. Redis drops it by its own clock, which is only tidying up.
local function stands(expires, now)
  return expires == -1 or expires * 1000 > now
end

-- A value whose time is not over, or false; and when its time is over, in milliseconds.
local function get(key, now)
  local value = redis.call('GET', key)
  if not value then return false end
  local expires = redis.call('PEXPIRETIME', key)
  return stands(expires, now) and value, expires
end

-- A lease's own bytes, behind its stamp: version 2, and the name of its terms, 16 bytes behind their tag and length.
local NAMES_TERMS = '\72\2\250\1\16'

-- A record in one piece. A lease has the terms that it names behind its own bytes, since messages merge. They lie beside it,
-- under a key that nobody could declare before it was read.
local function whole(value)
  if not value or string.sub(value, 10, 14) ~= NAMES_TERMS then return value end
  local name = string.gsub(string.sub(value, 15, 30), '.', function(byte) return string.format('%02x', string.byte(byte)) end)
  local terms = redis.call('GET', string.gsub(KEYS[1], 'meta$', 'w:') .. name)
  return terms and value .. terms or value
end

-- The record of a partition of whatever store; nothing if there is none, or part of it is missing: then the partition is lost,
-- not empty.
local function found(key)
  local meta = redis.call('HMGET', key,
    'replid', 'incarnation', 'stamp', 'max_exp', 'floor', 'incarnations', 'durable', 'identity')
  for i = 1, 7 do
    if not meta[i] then return nil end
  end
  return {
    open = meta[1] == server(),
    incarnation = tonumber(meta[2]), stamp = tonumber(meta[3]), max_exp = tonumber(meta[4]), floor = tonumber(meta[5]),
    incarnations = meta[6], durable = meta[7], identity = meta[8],
  }
end

-- The record of a partition of the caller's store, whose identity is the first number that it passes; or nothing, and what to answer.
--
-- INVARIANT (one store): whatever reads or writes in a store that was opened begins here. Another may be under the same address by now;
-- there a broker of this one reads nothing, registers nowhere and writes nothing (fencing, rule 19).
local function partition(key)
  local identity, meta = number(), found(key)
  if not meta then return nil, { 'lost' } end
  if meta.identity ~= text(identity) then return nil, { 'other' } end
  return meta
end

-- Tells whoever listens that a key changed; the channel has its name. A hint: nothing fails for want of it.
local function announce(key)
  redis.pcall('PUBLISH', key, '')
end
