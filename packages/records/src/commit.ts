import { schemaField } from './schema.ts';

/**
 * The one write of the record store, as a Lua script: all of a commit's records, and the entry of the change stream that is at once its
 * revision, its outbox of events and the log that replicas follow; or nothing at all.
 *
 * KEYS: records (hash `<kind>/<id>` → JSON), changes (stream). ARGV: commit id; lease key and token, or two empty strings; event list
 * (JSON); changed fields (JSON); the schema of who writes; the revision that it goes by, or an empty string; the newest revision that who writes has seen; the
 * new entry's id or `*`; then for each record: `put`, `create` or `delete`, its field, its JSON.
 * Answers the revision, or `!conflict <field>` / `!lease` / `!schema` (the records are of a newer one) / `!moved` (another commit has come since) / `!lost`
 * (Redis has forgotten what was answered before). A commit that a reconnect sends twice is found by its id and answered again.
 */
export const commitScript = `
local latest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 64)
for _, entry in ipairs(latest) do
  if entry[2][2] == ARGV[1] then return entry[1] end
end
local newest = latest[1] and latest[1][1] or '0-0'
if tonumber(redis.call('HGET', KEYS[1], '${schemaField}') or '1') > tonumber(ARGV[6]) then return '!schema' end
local newestMs, newestSequence = string.match(newest, '(%d+)-(%d+)')
local seenMs, seenSequence = string.match(ARGV[8], '(%d+)-(%d+)')
local behind = tonumber(newestMs) - tonumber(seenMs)
if behind < 0 or (behind == 0 and tonumber(newestSequence) < tonumber(seenSequence)) then return '!lost' end
if ARGV[2] ~= '' and redis.call('GET', ARGV[2]) ~= ARGV[3] then return '!lease' end
if ARGV[7] ~= '' and newest ~= ARGV[7] then return '!moved' end
for i = 10, #ARGV, 3 do
  if ARGV[i] == 'create' and redis.call('HEXISTS', KEYS[1], ARGV[i + 1]) == 1 then return '!conflict ' .. ARGV[i + 1] end
end
for i = 10, #ARGV, 3 do
  if ARGV[i] == 'delete' then redis.call('HDEL', KEYS[1], ARGV[i + 1])
  else redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2]) end
end
return redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, ARGV[9], 'i', ARGV[1], 'f', ARGV[5], 'e', ARGV[4])
`;

/**
 * Takes a lease when nobody holds it, or its holder has not prolonged it in time. Until somebody takes it, a late holder has it still: its key lives on for a
 * while. KEYS: lease, fence counter. ARGV: how long the key lives, ms; how long of that the lease lasts, ms; who wants it. Answers the fencing token
 * (`<number>@<holder>`), or `!` and the token of who has it.
 */
export const acquireScript = `
local held = redis.call('GET', KEYS[1])
if held and redis.call('PTTL', KEYS[1]) > ARGV[1] - ARGV[2] then return '!' .. held end
local token = tostring(redis.call('INCR', KEYS[2])) .. '@' .. ARGV[3]
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token
`;

/** Prolongs a lease we still hold. KEYS: lease. ARGV: token, how long the key lives, ms. Answers 1, or 0 when it is another's. */
export const renewScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`;

/** Gives a lease back. KEYS: lease. ARGV: token. */
export const releaseScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`;
