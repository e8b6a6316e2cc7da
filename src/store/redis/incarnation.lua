-- Begins an incarnation of a partition on the server that this runs on, which is no replica. Of the writes the event comes first:
-- only it can be refused.
local function begin(meta, set, events, new)
  local replid = assert(server(), 'the server is a replica')
  local plain = header(new.stamp, new.stamp, new.max_exp, {})
  redis.call('XADD', events, text(new.stamp) .. '-0', 'v', plain .. new.event)
  redis.call('HSET', set, 'i:' .. text(new.stamp), plain .. new.living)
  redis.call('HSET', meta, 'replid', replid, 'incarnation', text(new.stamp), 'stamp', text(new.stamp),
    'max_exp', text(new.max_exp), 'floor', text(new.floor), 'durable', new.durable,
    'incarnations', new.incarnations .. text(new.stamp) .. ' ')
  announce(events)
end
