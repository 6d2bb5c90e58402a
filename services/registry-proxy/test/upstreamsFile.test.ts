/** The operator's file of upstreams: where registries are, whom they trust, in what order they are asked; read again while the proxy runs. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Authority, type Pair } from './support/certificates.ts';
import { registryAuth, startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, unauthorized } from './support/standIn.ts';

let authority: Authority;
let server: Pair;
let directory: string;
let file: string;
let upstream: StandIn;
let proxy: TestProxy;

beforeAll(() => {
  authority = new Authority();
  server = authority.issue('server', ['registry.example']);
  authority.issue('lab');
});
afterAll(() => authority.remove());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-upstreams-'));
  file = join(directory, 'upstreams.json');
});
afterEach(async () => {
  await proxy?.stop();
  await upstream?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const write = (document: unknown): void => writeFileSync(file, typeof document === 'string' ? document : JSON.stringify(document));
const begin = async (document: unknown, env: Record<string, string> = {}): Promise<void> => {
  write(document);
  proxy = await startProxy({ engine: { upstreamsFile: file }, env });
};
const manifest = (registry: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${proxy.url}/v2/${registry}/app/manifests/latest`, { headers });
const startTls = async (clients = false): Promise<void> => {
  upstream = await StandIn.start(0, {
    cert: server.certificate,
    key: server.key,
    ...(clients ? { ca: authority.ca, requestCert: true, rejectUnauthorized: false } : {}),
  });
  upstream.addManifest('app', 'latest', {});
};

describe('certificates', () => {
  it('an authority of one’s own counts where the file says so, and a client certificate is shown', async () => {
    await startTls(true);
    const url = `https://${upstream.host}`;
    const clientCertificate = authority.path('lab.crt');
    await begin({
      upstreams: {
        'a.example': { url, ca: authority.file, clientCertificate, clientKey: authority.path('lab.key') },
        'b.example': { url },
        'c.example': { url, skipVerify: true },
      },
    });
    expect((await manifest('a.example')).status).toBe(200);
    expect(upstream.requests.at(-1)?.clientName).toBe('lab');
    const refused = await manifest('b.example');
    expect(refused.status).toBe(502);
    expect(await refused.text()).toContain('certificate signed by unknown authority');
    expect((await manifest('c.example')).status).toBe(200);
    expect(upstream.requests.at(-1)?.clientName).toBeUndefined();
  });

  it('are found where dockerd looks for them', async () => {
    await startTls(true);
    const folder = join(directory, 'certs.d', 'registry.example');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'ca.crt'), authority.ca);
    writeFileSync(join(folder, 'client.cert'), authority.issue('from-folder').certificate);
    const connectProxy = await ConnectProxy.start(() => upstream.port);
    try {
      const env = { HTTPS_PROXY: connectProxy.url, FLOTILLA_REGISTRY_CERTIFICATES: join(directory, 'certs.d') };
      await begin({}, env);
      expect(await (await manifest('registry.example')).text()).toContain('missing key client.key for client certificate client.cert');
      const { certificate, key } = authority.issue('from-folder');
      writeFileSync(join(folder, 'client.cert'), certificate);
      writeFileSync(join(folder, 'client.key'), key);
      expect((await manifest('registry.example')).status).toBe(200);
      expect(upstream.requests.at(-1)?.clientName).toBe('from-folder');
    } finally {
      await connectProxy.stop();
    }
  });
});

describe('credentials of the lab', () => {
  it('are used for those who come without any, and only there; the password is read from its file', async () => {
    upstream = await StandIn.start();
    upstream.addManifest('app', 'latest', {});
    upstream.guard = (authorization) =>
      authorization === undefined ? { status: 401, body: unauthorized, challenge: 'Basic realm="x"' } : true;
    const other = await StandIn.start();
    other.addManifest('app', 'latest', {});
    writeFileSync(join(directory, 'password'), 'hush:hush\n', { mode: 0o600 });
    try {
      await begin({
        upstreams: {
          'a.example': { url: `http://${upstream.host}`, credentials: { username: 'lab', passwordFile: 'password' } },
          'b.example': { url: `http://${other.host}` },
        },
      });
      expect((await manifest('a.example')).status).toBe(200);
      expect(upstream.requests.at(-1)?.authorization).toBe(`Basic ${Buffer.from('lab:hush:hush').toString('base64')}`);
      expect((await manifest('a.example', registryAuth('jane', 'own'))).status).toBe(200);
      expect(upstream.requests.at(-1)?.authorization).toBe(`Basic ${Buffer.from('jane:own').toString('base64')}`);
      await manifest('b.example');
      expect(other.requests.map(({ authorization }) => authorization)).toEqual([undefined]);
    } finally {
      await other.stop();
    }
  });
});

describe('mirrors', () => {
  it('of any registry are asked in their order for reads, and the registry itself last', async () => {
    upstream = await StandIn.start();
    const [first, second] = [await StandIn.start(), await StandIn.start()];
    try {
      upstream.addManifest('app', 'latest', { from: 'upstream' });
      const digest = second.addManifest('app', 'latest', { from: 'second' });
      const mirrors = [`http://${first.host}`, { url: `http://${second.host}` }];
      await begin({ upstreams: { 'a.example': { url: `http://${upstream.host}`, mirrors }, 'docker.io': { mirrors: [] } } });
      expect((await manifest('a.example')).headers.get('docker-content-digest')).toBe(digest);
      expect([first, second, upstream].map(({ requests }) => requests.length)).toEqual([1, 1, 0]);
      const push = await fetch(`${proxy.url}/v2/a.example/app/blobs/uploads/`, { method: 'POST' });
      expect(push.status).toBe(404);
      expect(upstream.requests.map(({ method }) => method)).toEqual(['POST']);
    } finally {
      await first.stop();
      await second.stop();
    }
  });
});

describe('limits', () => {
  it('of one upstream are its own', async () => {
    upstream = await StandIn.start();
    upstream.mishap = () => true;
    const url = `http://${upstream.host}`;
    await begin({ upstreams: { 'a.example': { url, timeouts: { firstByteMs: 200 } } } });
    expect((await manifest('a.example')).status).toBe(504);
  });

  it('so many blobs are fetched at a time', async () => {
    upstream = await StandIn.start();
    const digests = ['a', 'b', 'c', 'd'].map((text) => upstream.addBlob('app', Buffer.from(text.repeat(1000))));
    let asked = 0;
    const answered = Promise.withResolvers<boolean>();
    upstream.mishap = () => {
      asked++;
      return answered.promise;
    };
    await begin({ upstreams: { 'a.example': { url: `http://${upstream.host}`, concurrency: 2 } } });
    const answers = digests.map(async (digest) => (await fetch(`${proxy.url}/v2/a.example/app/blobs/${digest}`)).bytes());
    await waitFor(() => asked === 2, { what: 'two requests' });
    await sleep(100);
    expect(asked).toBe(2);
    answered.resolve(false);
    for (const answer of answers) expect(await answer).toHaveLength(1000);
  });
});

describe('the file', () => {
  it('is read again when it changes; a wrong one leaves what was in force', async () => {
    upstream = await StandIn.start();
    upstream.addManifest('app', 'latest', {});
    const url = `http://${upstream.host}`;
    await begin({ upstreams: { 'a.example': { url } } });
    expect((await manifest('a.example')).status).toBe(200);
    write({ upstreams: { 'b.example': { url } }, ownPrefixes: ['mine'] });
    await waitFor(async () => (await manifest('b.example')).status === 200, { what: 'the new file' });
    expect((await fetch(`${proxy.url}/v2/mine/app/blobs/uploads/`, { method: 'POST' })).status).toBe(202);
    write({ upstreams: { 'c.example': { url, mirror: 'x' } } });
    await proxy.proxy.reload();
    expect((await manifest('b.example')).status).toBe(200);
  });

  it('is still followed when its folder is made anew', async () => {
    upstream = await StandIn.start();
    upstream.addManifest('app', 'latest', {});
    await begin({});
    const at = { url: `http://${upstream.host}` };
    // Made again at once, and only after that was noticed.
    rmSync(directory, { recursive: true });
    mkdirSync(directory);
    write({ upstreams: { 'first.example': at } });
    await waitFor(async () => (await manifest('first.example')).ok, { what: 'the file to be read' });
    rmSync(directory, { recursive: true });
    await sleep(400);
    mkdirSync(directory);
    await sleep(400);
    write({ upstreams: { 'second.example': at } });
    await waitFor(async () => (await manifest('second.example')).ok, { what: 'the file to be read again' });
  });

  it.each([
    ['is not JSON', '{"password": "hush"'],
    ['upstreams.a.example.url: must be http', { upstreams: { 'a.example': { url: 'ftp://x' } } }],
    ['must not hold credentials', { upstreams: { 'a.example': { url: 'http://u:hush@x' } } }],
    [
      'Unrecognized key: "password"',
      { upstreams: { 'a.example': { credentials: { username: 'u', passwordFile: 'p', password: 'hush' } } } },
    ],
    ['no such file', { upstreams: { 'a.example': { ca: 'absent.crt' } } }],
    ['clientCertificate and clientKey belong together', { upstreams: { 'a.example': { clientCertificate: 'upstreams.json' } } }],
    ['certificates cannot be used', { upstreams: { 'a.example': { clientCertificate: 'upstreams.json', clientKey: 'upstreams.json' } } }],
    ['upstreams.a b: must be a registry', { upstreams: { 'a b': {} } }],
  ])('that is wrong refuses the start: %s', async (words, document) => {
    write(document);
    const refusal = await startProxy({ engine: { upstreamsFile: file } }).catch((error: unknown) => String(error));
    expect(refusal).toContain(words);
    expect(refusal).not.toContain('hush');
  });

  it('may not say otherwise than a flag', async () => {
    write({ upstreams: { 'a.example': {} } });
    const env = { FLOTILLA_REGISTRY_UPSTREAMS: 'a.example=http://127.0.0.1:1' };
    await expect(startProxy({ engine: { upstreamsFile: file }, env })).rejects.toThrow('a.example: named by a flag as well');
  });
});

describe('an HTTP proxy of the environment', () => {
  let connectProxy: ConnectProxy;
  beforeEach(async () => {
    connectProxy = await ConnectProxy.start(() => upstream.port);
  });
  afterEach(() => connectProxy.stop());

  it('is gone through, by CONNECT for TLS', async () => {
    await startTls();
    await begin({ upstreams: { 'registry.example': { ca: authority.file } } }, { HTTPS_PROXY: connectProxy.url });
    expect((await manifest('registry.example')).status).toBe(200);
    expect(connectProxy.asked).toEqual(['CONNECT registry.example:443']);
  });

  it('is gone through for plain HTTP, but not for hosts in NO_PROXY nor for this machine', async () => {
    upstream = await StandIn.start();
    upstream.addManifest('app', 'latest', {});
    const upstreams = {
      'a.example': { url: 'http://a.example:8080' },
      'b.example': { url: `http://b.invalid:${upstream.port}` },
      'c.example': { url: `http://${upstream.host}` },
    };
    await begin({ upstreams }, { HTTP_PROXY: connectProxy.url, NO_PROXY: 'b.invalid' });
    expect((await manifest('a.example')).status).toBe(200);
    expect(connectProxy.asked.every((line) => line.includes('a.example:8080'))).toBe(true);
    const before = connectProxy.asked.length;
    expect((await manifest('b.example')).status).toBe(502);
    expect((await manifest('c.example')).status).toBe(200);
    expect(connectProxy.asked).toHaveLength(before);
  });
});

/** A forward proxy that leads every host to one port of this machine. */
class ConnectProxy {
  readonly asked: string[] = [];
  private readonly server: Server;
  private readonly tunnels = new Set<Duplex>();

  private constructor(port: () => number) {
    this.server = createServer((request, response) => {
      this.asked.push(`${request.method} ${request.url}`);
      const { pathname } = new URL(request.url ?? '');
      fetch(`http://127.0.0.1:${port()}${pathname}`, { method: request.method ?? 'GET' }).then(
        async (answer) => response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.bytes()),
        () => response.writeHead(502).end(),
      );
    });
    this.server.on('connect', (request, client) => {
      this.asked.push(`CONNECT ${request.url}`);
      const upstream = connect(port(), '127.0.0.1', () => client.write('HTTP/1.1 200 Connection established\r\n\r\n'));
      upstream.on('error', () => client.destroy());
      client.on('close', () => upstream.destroy());
      this.tunnels.add(client);
      upstream.pipe(client).pipe(upstream);
    });
  }

  static async start(port: () => number): Promise<ConnectProxy> {
    const proxy = new ConnectProxy(port);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    for (const tunnel of this.tunnels) tunnel.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}
