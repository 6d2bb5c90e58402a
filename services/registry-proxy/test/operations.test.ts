/** What operators ask of a proxy, and stacks that share one: prefetch and pins, offline, garbage collection, log-in and search by relay. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLogger, Health, readConfig } from '@flotilla/service-kit';
import { buildImage, buildIndex, busyboxImage, pushImage, startRegistry, type TestRegistry, waitFor } from '@flotilla/testkit';
import { hashSync } from 'bcryptjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RegistryProxySettings, standaloneSettings } from '../src/config.ts';
import { anonymous } from '../src/credentials.ts';
import { HttpServer } from '../src/http/server.ts';
import { LabLink } from '../src/lab.ts';
import { Metrics } from '../src/metrics.ts';
import { Collector } from '../src/own/collector.ts';
import { OwnStore } from '../src/own/ownStore.ts';
import { Relay } from '../src/relay.ts';
import { remoteRegistries } from '../src/remoteRegistries.ts';
import { Transport } from '../src/upstream/transport.ts';
import { Authority } from './support/certificates.ts';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, sha256 } from './support/standIn.ts';

const logger = createLogger({ service: 'registry-proxy', instance: 'test', level: 'silent' });
const busybox = await busyboxImage();

async function post(proxy: TestProxy, path: string, body: object): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${proxy.url}/flotilla/v1/${path}`, { method: 'POST', body: JSON.stringify(body) });
  return { status: answer.status, text: await answer.text() };
}

describe('prefetch', () => {
  let upstream: TestRegistry;
  let proxy: TestProxy;
  beforeAll(async () => {
    upstream = await startRegistry();
    await pushImage(busybox, { address: upstream.address, repository: 'busybox', tag: 'latest' });
    const foreign = await buildImage({ layers: [[{ path: 'a', content: 'other' }]], architecture: 'riscv64' });
    await pushImage(buildIndex([busybox, foreign]), { address: upstream.address, repository: 'several', tag: 'latest' });
  });
  afterAll(() => upstream.stop());
  beforeEach(async () => {
    proxy = await startProxy();
  });
  afterEach(() => proxy.stop());

  it('fetches what a platform needs, or all, once, and says of each image how it went', async () => {
    const images = [`${upstream.address}/several`, `${upstream.address}/absent`];
    const lines = (await post(proxy, 'prefetch', { images })).text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ image: images[0], blobs: 2 });
    expect(lines[1]).toMatchObject({ image: images[1], error: expect.stringContaining('manifest unknown') });
    const gets = (): number => upstream.requests().filter((each) => each.method === 'GET' && each.path.includes('/blobs/')).length;
    const before = gets();
    await post(proxy, 'prefetch', { images: [images[0]] });
    expect(gets()).toBe(before);
    const all = JSON.parse((await post(proxy, 'prefetch', { images: [images[0]], platform: 'all' })).text);
    expect(all.blobs).toBe(4);
  });

  it('refuses names and bodies that are none, and asks nobody', async () => {
    for (const body of [{ images: ['UPPER'] }, { images: [] }, {}, { images: ['a'], platform: 'x/y/z/w' }]) {
      expect((await post(proxy, 'prefetch', body)).status, JSON.stringify(body)).toBe(400);
    }
  });

  it('serves what it holds while it is offline, and refuses the rest at once', async () => {
    const image = `${upstream.address}/busybox`;
    await post(proxy, 'prefetch', { images: [image] });
    await proxy.stop('keep');
    proxy = await startProxy({ root: proxy.root, env: { FLOTILLA_REGISTRY_OFFLINE: '1' } });
    const before = upstream.requests().length;
    const manifest = await fetch(`${proxy.url}/v2/${image}/manifests/latest`);
    expect(manifest.status).toBe(200);
    expect(manifest.headers.get('warning')).toContain('Stale');
    const layer = busybox.layers[0]?.digest ?? '';
    expect(sha256(Buffer.from(await (await fetch(`${proxy.url}/v2/${image}/blobs/${layer}`)).arrayBuffer()))).toBe(layer);
    const absent = await fetch(`${proxy.url}/v2/${upstream.address}/several/manifests/latest`);
    expect(absent.status).toBe(502);
    expect(await absent.text()).toContain('the proxy is offline');
    expect(upstream.requests()).toHaveLength(before);
  });

  it('keeps what is pinned whatever the bound says, until it is unpinned', async () => {
    const image = `${upstream.address}/busybox`;
    await post(proxy, 'prefetch', { images: [image], pin: true });
    await proxy.stop('keep');
    proxy = await startProxy({ root: proxy.root, env: { FLOTILLA_REGISTRY_CACHE_BYTES: '1000' } });
    const layer = busybox.layers[0]?.digest ?? '';
    const held = (): boolean => existsSync(join(proxy.root, 'blobs/sha256', layer.slice(7, 9), layer.slice(7)));
    expect(held()).toBe(true);
    expect(await (await fetch(`${proxy.url}/flotilla/v1/pins`)).json()).toEqual([image]);
    expect(JSON.parse((await post(proxy, 'unpin', { images: [image, 'never'] })).text)).toEqual([image]);
    await proxy.stop('keep');
    proxy = await startProxy({ root: proxy.root, env: { FLOTILLA_REGISTRY_CACHE_BYTES: '1000' } });
    expect(held()).toBe(false);
  });
});

describe('garbage collection of own repositories', () => {
  it('removes what no manifest needs once it is old, and nothing else', async () => {
    const proxy = await startProxy();
    try {
      await pushImage(busybox, { address: new URL(proxy.url).host, repository: 'lab/kept', tag: '1' });
      const loose = randomBytes(1000);
      const put = async (bytes: Buffer): Promise<number> =>
        (await fetch(`${proxy.url}/v2/lab/kept/blobs/uploads/?digest=${sha256(bytes)}`, { method: 'POST', body: new Uint8Array(bytes) }))
          .status;
      expect(await put(loose)).toBe(201);
      expect(JSON.parse((await post(proxy, 'collect', {})).text)).toEqual({ blobs: 0, bytes: 0 });
      const store = new OwnStore(proxy.root);
      const later = new Collector({ store, logger, graceMs: 60_000 });
      expect(await later.collect()).toEqual({ blobs: 0, bytes: 0 });
      age(join(proxy.root, 'own'));
      const fresh = randomBytes(500);
      expect(await put(fresh)).toBe(201);
      expect(await later.collect()).toEqual({ blobs: 1, bytes: 1000 });
      expect((await fetch(`${proxy.url}/v2/lab/kept/blobs/${sha256(loose)}`)).status).toBe(404);
      expect((await fetch(`${proxy.url}/v2/lab/kept/blobs/${sha256(fresh)}`)).status).toBe(200);
      const layer = busybox.layers[0]?.digest ?? '';
      expect((await fetch(`${proxy.url}/v2/lab/kept/blobs/${layer}`)).status).toBe(200);
      // Whoever asks whether a blob is there is about to push a manifest that needs it.
      age(join(proxy.root, 'own'));
      expect((await fetch(`${proxy.url}/v2/lab/kept/blobs/${sha256(fresh)}`, { method: 'HEAD' })).status).toBe(200);
      expect(await later.collect()).toEqual({ blobs: 0, bytes: 0 });
      // The last manifest goes, and with it what only it needed.
      await fetch(`${proxy.url}/v2/lab/kept/manifests/${busybox.manifestDescriptor.digest}`, { method: 'DELETE' });
      age(join(proxy.root, 'own'));
      expect((await later.collect()).blobs).toBe(4);
      expect((await fetch(`${proxy.url}/v2/lab/kept/blobs/${layer}`)).status).toBe(404);
    } finally {
      await proxy.stop();
    }
  });

  /** As if everything had been put two hours ago. */
  function age(folder: string): void {
    const then = Date.now() / 1000 - 7200;
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), then, then);
    }
  }
});

describe('a stack that shares the proxy', () => {
  let upstream: StandIn;
  let lab: TestProxy;
  let link: LabLink;
  let relay: Relay;
  let http: HttpServer;
  let url: string;
  const transport = new Transport({
    connectTimeoutMs: 5000,
    headersTimeoutMs: 5000,
    bodyIdleTimeoutMs: 5000,
    maxConnectionsPerHost: 4,
    environment: {},
  });

  /** Settings of a stack with this file of upstreams. */
  const settingsOf = (upstreamsFile?: string): RegistryProxySettings =>
    readConfig(standaloneSettings, {
      FLOTILLA_HTTP_ADDRESS: '127.0.0.1:0',
      FLOTILLA_ENGINE_OPTIONS: JSON.stringify({ upstreamsFile }),
      FLOTILLA_REGISTRY_CERTIFICATES: '',
    });
  const remote = () => remoteRegistries(() => link.current(), transport);

  async function relayTo(target: string, upstreamsFile?: string): Promise<void> {
    link = await LabLink.open(target, settingsOf(upstreamsFile), logger);
    relay = new Relay(() => link.current(), 5000);
    http = new HttpServer({ distribution: relay, metrics: new Metrics(), health: new Health(), logger });
    url = `http://127.0.0.1:${await http.listen('127.0.0.1:0')}`;
  }

  beforeEach(async () => {
    upstream = await StandIn.start();
    lab = await startProxy();
    await relayTo(lab.url);
  });
  const leave = async (): Promise<void> => {
    await http.close(0);
    relay.close();
    link.close();
  };
  afterEach(async () => {
    await leave();
    await lab.stop();
    await upstream.stop();
  });
  afterAll(() => transport.close());

  it('gets bytes, parts, refusals and credentials passed on as they are', async () => {
    const bytes = randomBytes(3_000_000);
    const digest = upstream.addBlob('app', bytes);
    const path = `/v2/${upstream.host}/app/blobs/${digest}`;
    expect(sha256(Buffer.from(await (await fetch(url + path)).arrayBuffer()))).toBe(digest);
    const part = await fetch(url + path, { headers: { range: 'bytes=10-19' } });
    expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, bytes.subarray(10, 20)]);
    const missing = await fetch(`${url}/v2/${upstream.host}/app/manifests/none`);
    expect([missing.status, await missing.text()]).toEqual([404, expect.stringContaining('MANIFEST_UNKNOWN')]);
    expect((await fetch(`${url}/flotilla/v1/pins`)).status).toBe(404);
    const put = await fetch(`${url}/v2/lab/own/blobs/uploads/?digest=${sha256(Buffer.from('x'))}`, { method: 'POST', body: 'x' });
    expect(put.status).toBe(201);
  });

  it('is told clearly when the proxy is away, and never takes a cut blob for a whole one', async () => {
    const cutting: Server = createServer((_request, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('half');
      setTimeout(() => response.destroy(), 20);
    });
    await new Promise<void>((resolve) => cutting.listen(0, '127.0.0.1', resolve));
    await leave();
    await relayTo(`http://127.0.0.1:${(cutting.address() as AddressInfo).port}`);
    await expect(fetch(`${url}/v2/a/blobs/x`).then((answer) => answer.arrayBuffer())).rejects.toThrow();
    cutting.closeAllConnections();
    await new Promise<void>((resolve) => cutting.close(() => resolve()));
    const away = await fetch(`${url}/v2/a/manifests/x`);
    expect(away.status).toBe(502);
    expect(await away.text()).toMatch(/the registry proxy at http:\/\/127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
  });

  it('is to a proxy that asks for names who the upstreams file says it is, also when that changes', async () => {
    const authority = new Authority();
    authority.issue('server');
    writeFileSync(authority.path('htpasswd'), `stack:${hashSync('hush', 4)}\n`);
    writeFileSync(authority.path('password'), 'hush\n');
    await lab.stop();
    lab = await startProxy({
      env: {
        FLOTILLA_REGISTRY_HTPASSWD: authority.path('htpasswd'),
        FLOTILLA_REGISTRY_TLS_CERTIFICATE: authority.path('server.crt'),
        FLOTILLA_REGISTRY_TLS_KEY: authority.path('server.key'),
      },
    });
    const { host } = new URL(lab.url);
    const write = (document: unknown): void =>
      writeFileSync(authority.path('upstreams.json'), JSON.stringify({ upstreams: { [host]: document } }));
    const catalog = async (): Promise<number> => (await fetch(`${url}/v2/_catalog`)).status;
    try {
      write({});
      await leave();
      await relayTo(`${lab.url}/`, authority.path('upstreams.json'));
      expect(await (await fetch(`${url}/v2/_catalog`)).text()).toMatch(/cannot be reached: .*certificate/);
      write({ ca: 'ca.crt' });
      await waitFor(async () => (await catalog()) === 401, { what: 'the authority to count' });
      await expect(remote().info()).rejects.toThrow('authentication required');
      write({ ca: 'ca.crt', credentials: { username: 'stack', passwordFile: 'password' } });
      await waitFor(async () => (await catalog()) === 200, { what: 'the name to count' });
      expect(await remote().info()).toHaveProperty('IndexConfigs');
      write({ mirrors: ['https://elsewhere.example'] });
      await sleep(400);
      expect(await catalog()).toBe(200);
    } finally {
      authority.remove();
    }
  });

  it('waits for it no longer than the upstreams file says', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const file = join(lab.root, 'upstreams.json');
    writeFileSync(file, JSON.stringify({ upstreams: { [`127.0.0.1:${port}`]: { timeouts: { firstByteMs: 200 } } } }));
    try {
      await leave();
      await relayTo(`http://127.0.0.1:${port}`, file);
      const answer = await fetch(`${url}/v2/a/manifests/x`);
      expect([answer.status, await answer.text()]).toEqual([502, expect.stringContaining('cannot be reached')]);
      await expect(remote().info()).rejects.toThrow('cannot be reached');
    } finally {
      silent.closeAllConnections();
      silent.close();
    }
  });

  it.each([
    ['mirrors', { mirrors: ['https://elsewhere.example'] }, {}],
    ['concurrency', { concurrency: 4 }, {}],
    ['url', { url: 'https://elsewhere.example' }, {}],
    ['upstreams.ghcr.io', {}, { upstreams: { 'ghcr.io': {} } }],
    ['ownPrefixes', {}, { ownPrefixes: ['lab'] }],
  ])('says of what its upstreams file cannot tell the lab’s proxy: %s', async (what, entry, document) => {
    const file = join(lab.root, 'upstreams.json');
    writeFileSync(file, JSON.stringify({ upstreams: { 'registry.lab:5000': entry }, ...document }));
    const named = what.includes('.') || what === 'ownPrefixes' ? what : `upstreams.registry.lab:5000.${what}`;
    await expect(LabLink.open('http://registry.lab:5000', settingsOf(file), logger)).rejects.toThrow(
      `upstreams.json: ${named}: to be told`,
    );
  });

  it('logs in and searches by it, with its words', async () => {
    const signal = new AbortController().signal;
    upstream.guard = (authorization) =>
      authorization === `Basic ${Buffer.from('ada:right').toString('base64')}` ||
      ({ status: 401, challenge: 'Basic realm="x"', body: { errors: [{ code: 'UNAUTHORIZED', message: 'no' }] } } as const);
    const config = { serveraddress: upstream.host, username: 'ada' };
    expect(await remote().login.check({ ...config, password: 'right' }, signal)).toMatchObject({ status: 'Login Succeeded' });
    await expect(remote().login.check({ ...config, password: 'wrong' }, signal)).rejects.toThrow(/401 Unauthorized/);
    await expect(remote().search.find({ term: 'x', limit: 1000, filters: {}, credentials: anonymous }, signal)).rejects.toMatchObject({
      kind: 'InvalidParameter',
    });
    expect((await remote().info()).IndexConfigs).toHaveProperty('docker.io');
  });
});
