import { schemaField } from './schema.ts';

/** The change stream is never cut to fewer entries than this: a shorter one has all that there ever were since Redis was empty. */
export const keptEntries = 1_000;

/** Whether Redis has forgotten a revision: it is not in the change stream, and was not cut off with the stream's oldest. */
const forgotten = `
local function isBefore(a, b)
  local aMs, aSequence = string.match(a, '(%d+)-(%d+)')
  local bMs, bSequence = string.match(b, '(%d+)-(%d+)')
  local difference = tonumber(aMs) - tonumber(bMs)
  return difference < 0 or (difference == 0 and tonumber(aSequence) < tonumber(bSequence))
end
local function isForgotten(changes, seen, newest)
  if seen == '0-0' or seen == newest or #redis.call('XRANGE', changes, seen, seen) > 0 then return false end
  if isBefore(newest, seen) or redis.call('XLEN', changes) < ${keptEntries} then return true end
  return not isBefore(seen, redis.call('XRANGE', changes, '-', '+', 'COUNT', 1)[1][1])
end
`;

/** KEYS: changes. ARGV: a revision. Answers 1 when Redis has forgotten it. */
export const forgottenScript = `${forgotten}
local latest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return isForgotten(KEYS[1], ARGV[1], latest[1] and latest[1][1] or '0-0') and 1 or 0
`;

/**
 * The one write of the record store, as a Lua script: all of a commit's records, and the entry of the change stream that is at once its
 * revision, its outbox of events and the log that replicas follow; or nothing at all.
 *
 * KEYS: records (hash `<kind>/<id>` → JSON), changes (stream). ARGV: commit id; lease key and token, or two empty strings; event list
 * (JSON); changed fields (JSON); the schema of who writes; the revision that it goes by, or an empty string; the newest revision that who writes has seen; the
 * new entry's id or `*`, or an empty string for a part that another entry concludes; then for each record: `put`, `create`, `delete` or
 * `unchanged`, its field, its JSON. Answers the revision, or `!conflict <field>` (there is one to `create`) / `!changed <field>` (it is not `unchanged`) / `!lease` / `!schema` (the records are of a newer one) / `!moved` (another commit has come since) / `!lost`
 * (Redis has forgotten what was answered before). A commit that a reconnect sends twice is found by its id and answered again.
 */
export const commitScript = `${forgotten}
local latest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 64)
for _, entry in ipairs(latest) do
  if entry[2][2] == ARGV[1] then return entry[1] end
end
local newest = latest[1] and latest[1][1] or '0-0'
if tonumber(redis.call('HGET', KEYS[1], '${schemaField}') or '1') > tonumber(ARGV[6]) then return '!schema' end
if isForgotten(KEYS[2], ARGV[8], newest) then return '!lost' end
if ARGV[2] ~= '' and redis.call('GET', ARGV[2]) ~= ARGV[3] then return '!lease' end
if ARGV[7] ~= '' and newest ~= ARGV[7] then return '!moved' end
for i = 10, #ARGV, 3 do
  if ARGV[i] == 'create' and redis.call('HEXISTS', KEYS[1], ARGV[i + 1]) == 1 then return '!conflict ' .. ARGV[i + 1] end
  if ARGV[i] == 'unchanged' and redis.call('HGET', KEYS[1], ARGV[i + 1]) ~= ARGV[i + 2] then return '!changed ' .. ARGV[i + 1] end
end
for i = 10, #ARGV, 3 do
  if ARGV[i] == 'delete' then redis.call('HDEL', KEYS[1], ARGV[i + 1])
  elseif ARGV[i] ~= 'unchanged' then redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2]) end
end
if ARGV[9] == '' then return newest end
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
