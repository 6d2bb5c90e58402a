/** Two replicas on one data root: together they ask an upstream once, and one goes on where the other died. */
import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ProxyProcess } from './support/process.ts';
import { denied, StandIn, sha256 } from './support/standIn.ts';

const size = 8 * 1024 * 1024;
let upstream: StandIn;
let first: ProxyProcess;
let second: ProxyProcess;
let digest: string;
let path: string;
let partial: string;

beforeEach(async () => {
  upstream = await StandIn.start();
  first = await ProxyProcess.start();
  second = await ProxyProcess.replica(first);
  digest = upstream.addBlob('app', randomBytes(size));
  path = `/v2/${upstream.host}/app/blobs/${digest}`;
  partial = join(first.dataRoot, 'partial', digest.replace(':', '-'));
  upstream.mishap = async (request, response, asked) => {
    if (request.method !== 'GET' || !asked.includes('/blobs/')) return false;
    await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 256 * 1024, pauseMs: 25 });
    return true;
  };
});
afterEach(async () => {
  await second.end('SIGTERM');
  await first.stop();
  await upstream.stop();
});

const begun = (): Promise<unknown> =>
  waitFor(() => existsSync(partial) && statSync(partial).size > size / 8, { what: 'a part of the blob' });
const gets = (): (string | undefined)[] => upstream.requests.filter((each) => each.method === 'GET').map((each) => each.range);

it('fetch a blob once, and each serves it as it grows', async () => {
  const one = first.get(path);
  await begun();
  const others = await Promise.all([one, second.get(path), second.get(path), first.get(path)]);
  for (const other of others) expect(sha256(other.bytes)).toBe(digest);
  expect(sha256((await second.get(path)).bytes)).toBe(digest);
  expect(gets()).toEqual([undefined]);
});

it('take over from one that was killed, without fetching the start again', async () => {
  const lost = first.get(path).catch(() => 'cut');
  await begun();
  const other = second.get(path);
  await waitFor(() => upstream.count('HEAD', `/v2/app/blobs/${digest}`) === 1, { what: 'the other replica' });
  await first.end('SIGKILL');
  expect(await lost).toBe('cut');
  expect(sha256((await other).bytes)).toBe(digest);
  expect(gets()).toHaveLength(2);
  expect(Number(/^bytes=(\d+)-$/.exec(gets()[1] ?? '')?.[1])).toBeGreaterThanOrEqual(size / 8);
  await first.run();
  expect(sha256((await first.get(path)).bytes)).toBe(digest);
});

it('let nobody in whom the upstream has refused, even while the other fetches', async () => {
  const one = first.get(path);
  await begun();
  upstream.guard = () => ({ status: 403, body: denied });
  expect((await second.get(path)).status).toBe(403);
  await one;
});
