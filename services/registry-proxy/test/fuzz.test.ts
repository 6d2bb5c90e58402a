/**
 * Hostile and random requests: whatever comes, the answer is a fitting 2xx, 3xx or 4xx with the specification's body, the proxy lives on, nothing appears
 * outside its folder, and what is in its store is what its digests say. A failure prints the seed and path that show it again (`FUZZ_SEED`). Longer with
 * FLOTILLA_SOAK=1.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, sha256 } from './support/standIn.ts';

const soak = process.env.FLOTILLA_SOAK === '1';
const seed = Number(process.env.FUZZ_SEED ?? (soak ? Date.now() % 1e9 : 20_261_124));
const options = (runs: number): { numRuns: number; seed: number } => ({ numRuns: soak ? runs * 50 : runs, seed });

let folder: string;
let upstream: StandIn;
let proxy: TestProxy;
const held = randomBytes(5000);
const pushed = randomBytes(5000);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'flotilla-registry-fuzz-'));
  writeFileSync(join(folder, 'neighbour'), 'untouched');
  mkdirSync(join(folder, 'root'));
  upstream = await StandIn.start();
  upstream.addBlob('library/app', held);
  upstream.addManifest('library/app', 'latest', { schemaVersion: 2, config: { digest: sha256(held) }, layers: [] });
  const env = { FLOTILLA_REGISTRY_UPSTREAMS: `docker.io=http://${upstream.host}` };
  proxy = await startProxy({ root: join(folder, 'root'), env });
  const put = await fetch(`${proxy.url}/v2/lab/app/blobs/uploads/?digest=${sha256(pushed)}`, { method: 'POST', body: pushed });
  expect(put.status).toBe(201);
});
afterAll(async () => {
  await proxy?.stop('keep');
  await upstream?.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  expect((await fetch(`${proxy.url}/v2/`)).status).toBe(200);
  expect(Buffer.from(await (await fetch(`${proxy.url}/v2/lab/app/blobs/${sha256(pushed)}`)).arrayBuffer())).toEqual(pushed);
  expect(Buffer.from(await (await fetch(`${proxy.url}/v2/library/app/blobs/${sha256(held)}`)).arrayBuffer())).toEqual(held);
  expect(readdirSync(folder).sort()).toEqual(['neighbour', 'root']);
  expect(readFileSync(join(folder, 'neighbour'), 'utf8')).toBe('untouched');
  expectSound(join(folder, 'root'));
});

/** Every file that is named by a digest has that digest. */
function expectSound(root: string): void {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const algorithm = /\/(sha256|sha512)\/[0-9a-f]{2}$/.exec(entry.parentPath)?.[1];
    if (!entry.isFile() || algorithm === undefined || !/^[0-9a-f]+$/.test(entry.name)) continue;
    expect(createHash(algorithm).update(readFileSync(path)).digest('hex'), path).toBe(entry.name);
  }
}

/** Sends bytes as they are. @returns the whole answer; empty when there was none before the connection ended. */
function send(bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(proxy.url);
    const socket = connect({ host: hostname, port: Number(port) });
    let text = '';
    // What is left of a request that promises more than it sends is not waited for.
    socket.setTimeout(1000, () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(text) : reject(error),
    );
    socket.on('close', () => resolve(text));
    socket.end(bytes);
  });
}

/** The status of an answer, which must be none of our own faults. */
function fitting(answer: string, what: string): number {
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1] ?? 400);
  const isUpstreams = answer.includes('"UNAVAILABLE"');
  expect(status < 500 || isUpstreams, `${what}\n${answer.slice(0, 500)}`).toBe(true);
  const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
  if (status >= 400 && body !== '' && answer.includes('application/json')) expect(body, what).toMatch(/"errors":\s*\[\{"code":"[A-Z_]+"/);
  return status;
}

const digestLike = fc.constantFrom(
  sha256(held),
  sha256(pushed),
  `sha256:${'0'.repeat(64)}`,
  `sha512:${'0'.repeat(128)}`,
  'sha256:',
  'md5:00',
  'sha256:../../x',
);
const segment = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      'v2',
      'lab',
      'library',
      'app',
      'blobs',
      'uploads',
      'manifests',
      'tags',
      'list',
      'referrers',
      '_catalog',
      'latest',
    ),
  },
  { weight: 2, arbitrary: digestLike },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '',
      '.',
      '..',
      '%2e%2e',
      '%2F',
      '..%2f..%2fetc',
      '%00',
      '%',
      '%ff',
      '_blobs',
      '_uploads',
      '~',
      'a%20b',
      'A',
      'neighbour',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.string({ unit: 'binary', maxLength: 20 }).map((text) => encodeURIComponent(Buffer.from(text).toString('latin1'))),
  },
);
const wellFormed = fc
  .tuple(
    fc.constantFrom('lab/app', 'library/app', 'lab/new', 'lab/a/b/c'),
    fc.constantFrom('blobs', 'manifests', 'referrers'),
    fc.oneof(digestLike, fc.constantFrom('latest', 'x'.repeat(129))),
  )
  .map((parts) => `/v2/${parts.join('/')}`);
const path = fc.oneof(
  wellFormed,
  fc.array(segment, { maxLength: 8 }).map((parts) => `/v2/${parts.join('/')}`),
  fc.array(segment, { maxLength: 5 }).map((parts) => `/${parts.join('/')}`),
);
const query = fc.oneof(
  fc.constant(''),
  fc
    .array(
      fc.tuple(
        fc.constantFrom('digest', 'mount', 'from', 'n', 'last', 'artifactType', 'tag', 'ns'),
        fc.oneof(digestLike, fc.constantFrom('0', '-1', '1e9', '%00', '../x', 'lab/app', 'docker.io')),
      ),
      { maxLength: 3 },
    )
    .map((pairs) => `?${pairs.map(([name, value]) => `${name}=${value}`).join('&')}`),
);
const number = fc.oneof(fc.nat({ max: 6000 }).map(String), fc.constantFrom('', '-1', '99999999999999999999', '1e3', '0x1', ' '));
const header = fc.oneof(
  fc.tuple(
    fc.constantFrom('range', 'content-range'),
    fc
      .tuple(fc.constantFrom('bytes=', 'bytes ', '', 'items='), number, fc.constantFrom('-', ',', '--'), number)
      .map((parts) => parts.join('')),
  ),
  fc.tuple(
    fc.constantFrom('if-none-match', 'accept', 'content-type', 'x-request-id', 'cache-control', 'expect', 'upgrade'),
    fc.string({ maxLength: 40 }),
  ),
  fc.tuple(
    fc.constantFrom('authorization', 'x-registry-auth'),
    fc.oneof(fc.string({ maxLength: 40 }), fc.base64String({ maxLength: 40 }), fc.constantFrom('Basic', 'Basic Og==', 'Bearer x', 'e30=')),
  ),
);
const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '');

it('any method, path, query, header and body', async () => {
  const body = fc.oneof(
    fc.constant(Buffer.alloc(0)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.json().map((text) => Buffer.from(text)),
  );
  const method = fc.constantFrom('GET', 'GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PURGE');
  const request = fc.tuple(method, path, query, fc.array(header, { maxLength: 4 }), body);
  await fc.assert(
    fc.asyncProperty(request, async ([verb, where, search, headers, bytes]) => {
      // What this very test needs afterwards is not deleted.
      if (verb === 'DELETE' && where.includes(sha256(pushed))) return;
      const lines = headers.map(([name, value]) => `${name}: ${printable(value)}\r\n`).join('');
      const start = `${verb} ${where}${search} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${bytes.length}\r\n${lines}\r\n`;
      fitting(await send(Buffer.concat([Buffer.from(start, 'latin1'), bytes])), `${start}${bytes.toString('latin1')}`);
    }),
    options(300),
  );
}, 3_600_000);

it('bytes that are no HTTP, or half of it', async () => {
  const whole = Buffer.from(
    `PUT /v2/lab/app/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n`,
  );
  const half = fc.nat({ max: whole.length }).map((length) => whole.subarray(0, length));
  const garbage = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  await fc.assert(
    fc.asyncProperty(fc.oneof(half, garbage), async (bytes) => void fitting(await send(bytes), bytes.toString('latin1'))),
    options(40),
  );
}, 3_600_000);

const descriptorLike = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ mediaType: fc.constantFrom('application/x', '', 'a'.repeat(400)), digest: digestLike, size: fc.integer() }),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);
const manifestLike = fc.record(
  {
    schemaVersion: fc.oneof(fc.constant(2), fc.jsonValue({ maxDepth: 1 })),
    mediaType: fc.constantFrom('application/vnd.oci.image.manifest.v1+json', 'application/vnd.oci.image.index.v1+json', '', 7),
    config: descriptorLike,
    layers: fc.oneof(fc.array(descriptorLike, { maxLength: 3 }), fc.jsonValue({ maxDepth: 1 })),
    manifests: fc.oneof(fc.array(descriptorLike, { maxLength: 3 }), fc.jsonValue({ maxDepth: 1 })),
    subject: descriptorLike,
    artifactType: fc.oneof(fc.string(), fc.jsonValue({ maxDepth: 1 })),
    annotations: fc.oneof(fc.dictionary(fc.string(), fc.string()), fc.jsonValue({ maxDepth: 2 })),
  },
  { requiredKeys: [] },
);

it('manifests of any shape are taken and given back as they are, or refused; lists of them go on working', async () => {
  const type = fc.constantFrom(
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.oci.image.index.v1+json',
    'application/x; y=z',
    'ä',
  );
  const refusals = [400, 404];
  await fc.assert(
    fc.asyncProperty(manifestLike, type, async (document, contentType) => {
      const bytes = Buffer.from(JSON.stringify(document));
      const at = `${proxy.url}/v2/lab/app/manifests/any`;
      const put = await fetch(at, { method: 'PUT', headers: { 'content-type': contentType }, body: bytes });
      if (put.status === 201) expect(Buffer.from(await (await fetch(at)).arrayBuffer())).toEqual(bytes);
      else expect(refusals, await put.text()).toContain(put.status);
      for (const subject of [sha256(held), sha256(pushed)]) {
        const list = await fetch(`${proxy.url}/v2/lab/app/referrers/${subject}`);
        expect(list.status).toBe(200);
        expect(Array.isArray(((await list.json()) as { manifests: unknown }).manifests)).toBe(true);
      }
    }),
    options(60),
  );
}, 3_600_000);
