-- Appends to the log. KEYS: the log, its identity, the replication id it was last appended under. ARGV: the identity of
-- a log that begins, records end to end.
local stream = redis.pcall('XINFO', 'STREAM', KEYS[1])
local last
if not stream.err then
    for at = 1, #stream, 2 do
        if stream[at] == 'last-generated-id' then
            last = tonumber(string.match(stream[at + 1], '^(%d+)'))
        end
    end
end
if last then
    redis.call('SET', KEYS[2], ARGV[1], 'NX')
else
    redis.call('SET', KEYS[2], ARGV[1])
end
local under = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local id = '*'
if not last or redis.call('GET', KEYS[3]) ~= under then
    -- Another log, or another primary, which may lack what the one before it had. Ids that were lost are passed over, so
    -- that none is used twice.
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    id = string.format('%.0f-%.0f', math.max(last or 0, now) + 60000, time[1] * 1000000 + time[2])
    redis.call('SET', KEYS[3], under)
end
return redis.call('XADD', KEYS[1], id, 'r', ARGV[2])
