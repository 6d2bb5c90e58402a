/** A proxy alone as its operator sees it: figures, the access log, files read again, and its end while clients are served. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { StandaloneProcess } from './support/standalone.ts';
import { StandIn, sha256 } from './support/standIn.ts';

let upstream: StandIn;
let proxy: StandaloneProcess;
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-operation-'));
  const upstreamsFile = join(directory, 'upstreams.json');
  writeFileSync(upstreamsFile, '{}');
  upstream = await StandIn.start();
  proxy = await StandaloneProcess.start({ FLOTILLA_ENGINE_OPTIONS: JSON.stringify({ upstreamsFile }) });
}, 90_000);
afterAll(async () => {
  await proxy?.stop();
  await upstream?.stop();
  rmSync(directory, { recursive: true, force: true });
});

it('every figure that operations need is told', async () => {
  const digest = upstream.addBlob('app', randomBytes(100_000));
  upstream.addManifest('app', 'latest', {});
  upstream.mishap = (_request, response) => {
    response.setHeader('ratelimit-limit', '100;w=21600').setHeader('ratelimit-remaining', '99;w=21600');
    return false;
  };
  for (let count = 0; count < 2; count++) {
    await proxy.get(`/v2/${upstream.host}/app/blobs/${digest}`);
    await proxy.get(`/v2/${upstream.host}/app/manifests/latest`);
  }
  const pushed = randomBytes(50_000);
  const push = `http://${proxy.address}/v2/lab/app/blobs/uploads/?digest=${sha256(pushed)}`;
  expect((await fetch(push, { method: 'POST', body: pushed })).status).toBe(201);
  const figures = (await proxy.get('/metrics')).bytes.toString();
  const figure = (name: string): number => {
    const line = figures.split('\n').find((each) => each.startsWith(`flotilla_registry_${name} `));
    return Number(line?.slice(line.lastIndexOf(' ')));
  };
  const host = `host="${upstream.host}"`;
  expect({
    hits: [figure('blobs_total{origin="cache"}'), figure('manifests_total{origin="cache"}')],
    misses: [figure('blobs_total{origin="fill"}'), figure('manifests_total{origin="upstream"}')],
    down: [figure('fetched_bytes_total'), figure('sent_bytes_total')],
    inFlight: [figure('requests_in_flight'), figure('fills')],
    evictions: figure('cache_evictions_total'),
    rate: [figure(`upstream_rate_limit{${host}}`), figure(`upstream_rate_remaining{${host}}`)],
    stale: figure('stale_total'),
    quarantined: figure('quarantined'),
  }).toEqual({
    hits: [1, 1],
    misses: [1, 1],
    down: [100_000, 200_000],
    inFlight: [1, 0],
    evictions: 0,
    rate: [100, 99],
    stale: 0,
    quarantined: 0,
  });
  expect(figure('received_bytes_total')).toBeGreaterThanOrEqual(pushed.length);
  expect(figure(`upstream_seconds_count{${host}}`)).toBeGreaterThan(1);
  upstream.mishap = undefined;
});

it('the access log has a line a request, with its id', async () => {
  await proxy.get('/v2/', { 'x-request-id': 'from-a-test' });
  const line = await waitFor(() => proxy.output.split('\n').find((each) => each.includes('from-a-test')), { what: 'the line' });
  expect(JSON.parse(line)).toMatchObject({ message: 'request', requestId: 'from-a-test', method: 'GET', path: '/v2/', status: 200 });
});

it('SIGHUP has the files read again', async () => {
  const times = (): number => proxy.output.split('upstreams read again').length - 1;
  const before = times();
  proxy.signal('SIGHUP');
  await waitFor(() => times() > before, { what: 'the file' });
});

it('ends when those it serves have what they asked for, and takes no others', async () => {
  const digest = upstream.addBlob('app', randomBytes(2_000_000));
  upstream.mishap = async (request, response, path) => {
    if (!path.includes(digest)) return false;
    await upstream.sendBlob(request, response, `app/${digest}`, { chunkBytes: 100_000, pauseMs: 50 });
    return true;
  };
  const slow = proxy.get(`/v2/${upstream.host}/app/blobs/${digest}`);
  await waitFor(() => upstream.requests.some(({ path }) => path.includes(digest)), { what: 'the fetch' });
  const ended = proxy.end('SIGTERM');
  await waitFor(() => proxy.output.includes('stopping'), { what: 'the end' });
  await waitFor(
    () =>
      proxy.get('/readyz').then(
        () => false,
        () => true,
      ),
    { what: 'a closed door' },
  );
  expect(sha256((await slow).bytes)).toBe(digest);
  expect(await ended).toBe(0);
});
