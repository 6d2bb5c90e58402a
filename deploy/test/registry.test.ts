/** A stack and a registry-proxy alone, by the flotilla command: what `ps` tells of upstreams, who may use a lab's proxy, replicas. Steps in order. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, createTestHost, ServerProcess, startRedis, type TestHost, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const repositoryRoot = join(import.meta.dirname, '../..');
/** As `htpasswd -nB` writes them: secret, word. */
const passwords = `jane:$2y$08$57oLZ6DTyoeJkoZ0KeF9b.NUmcSZH3ShB4xjIf7O0lqcOVphHN6Sm
john:$2y$08$QulpEYyaOlDczXhEvLweMOHmkeneRX2LzJUi..EvQJwbOhlGwTrcu
`;
/** A registry that has nothing, and counts pulls as Docker Hub does. */
const counting = `
  const headers = { 'content-type': 'application/json', 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600' };
  require('node:http').createServer((request, response) => {
    response.writeHead(request.url === '/v2/' ? 200 : 404, headers).end('{}');
  }).listen(5999, '127.0.0.1', () => console.log('listening'));
`;

let host: TestHost;
let directory: string;
const file = (name: string): string => join(directory, name);
const write = (name: string, text: string): string => {
  writeFileSync(file(name), text, { mode: 0o644 });
  return file(name);
};
const registry = (...args: string[]): Promise<CommandResult> =>
  host.run('sh', [join(repositoryRoot, 'deploy/flotilla'), 'registry', ...args]);
const mustRegistry = (env: NodeJS.ProcessEnv, ...args: string[]): Promise<CommandResult> =>
  host.mustRun('sh', [join(repositoryRoot, 'deploy/flotilla'), 'registry', ...args], { env: { ...process.env, ...env } });

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-lab-'));
  chmodSync(directory, 0o755);
  host = await createTestHost();
  const server = ServerProcess.start('counting-registry', host, () => [process.execPath, '-e', counting]);
  host.onDispose(() => server.stop());
  await waitFor(() => server.output.includes('listening'), { what: 'the counting registry' });
  const upstreams = write('upstreams.json', JSON.stringify({ upstreams: { 'docker.io': { url: 'http://127.0.0.1:5999' } } }));
  await host.startStack({ args: ['--upstreams', upstreams], timeoutMs: 150_000 });
}, 180_000);
afterAll(async () => {
  await host?.dispose();
  rmSync(directory, { recursive: true, force: true });
});

describe('flotilla ps', () => {
  it('shows what an upstream leaves of its rate limit', async () => {
    const upstream = { url: 'http://127.0.0.1:5999', rateLimit: { limit: 100, remaining: 76, windowSeconds: 21_600 } };
    expect((await host.docker('pull', 'busybox')).stderr).toContain('manifest unknown');
    expect((await host.flotilla('ps')).stdout).toContain(`upstream ${upstream.url}: 76 of 100 pulls left in a window of 6 hours\n`);
    const processes = JSON.parse((await host.flotilla('ps', '--json')).stdout) as { service: string; upstreams?: unknown }[];
    expect(processes.find(({ service }) => service === 'registry-proxy')?.upstreams).toEqual([upstream]);
    expect((await mustRegistry({}, 'status', '--exec-root', host.execRoot)).stdout).toContain('76 of 100 pulls left');
  }, 180_000);
});

describe('a lab’s proxy with names and passwords, by TLS', () => {
  const address = '127.0.0.1:5443';
  const operator = (user: string): string[] => {
    const passwordFile = write(`${user}.password`, user === 'jane' ? 'secret\n' : 'word\n');
    return ['--url', `https://${address}`, '--tls-ca', file('server.crt'), '--user', user, '--password-file', passwordFile];
  };

  beforeAll(async () => {
    const pair = ['-keyout', file('server.key'), '-out', file('server.crt'), '-subj', '/CN=lab', '-addext', 'subjectAltName=IP:127.0.0.1'];
    await host.mustRun('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...pair]);
    chmodSync(file('server.key'), 0o644);
    const access = ['--htpasswd', write('htpasswd', passwords), '--push-users', 'jane'];
    const tls = ['--tls-cert', file('server.crt'), '--tls-key', file('server.key')];
    await mustRegistry({}, 'up', '--listen', address, '--data-root', file('proxy'), ...access, ...tls);
  }, 90_000);
  afterAll(async () => {
    await registry('down', '--data-root', file('proxy'));
  });

  it('lets docker log in, those who may push push, and the others pull', async () => {
    const login = (user: string, password: string): Promise<CommandResult> =>
      host.dockerWith({ input: password }, 'login', '-u', user, '--password-stdin', address);
    expect((await login('jane', 'wrong')).stderr).toContain('401 Unauthorized');
    expect((await login('jane', 'secret')).stdout).toContain('Login Succeeded');
    await host.sh(`tar -C ${directory} -cf - htpasswd | docker -H unix://${host.socketPath} import - ${address}/lab/app:1`);
    await host.mustDocker('push', `${address}/lab/app:1`);
    expect((await login('john', 'word')).stdout).toContain('Login Succeeded');
    expect((await host.docker('push', `${address}/lab/app:1`)).stderr).toContain('denied');
    await host.mustDocker('rmi', `${address}/lab/app:1`);
    await host.mustDocker('pull', `${address}/lab/app:1`);
    await host.mustDocker('logout', address);
    const create = `http://docker/images/create?fromImage=${encodeURIComponent(`${address}/lab/app`)}&tag=2`;
    expect(await host.sh(`curl -sS --unix-socket ${host.socketPath} -X POST '${create}'`)).toMatch(
      /no basic auth credentials|authentication required/,
    );
  }, 180_000);

  it('asks operators who they are as well', async () => {
    expect((await mustRegistry({}, 'status', ...operator('john'))).stdout).toContain('replicas   1\n');
    const strangers = await registry('status', '--url', `https://${address}`, '--tls-ca', file('server.crt'));
    expect([strangers.code, strangers.stderr]).toEqual([1, 'flotilla: authentication required\n']);
    expect((await registry('collect', ...operator('john'))).stderr).toContain('denied');
    expect((await mustRegistry({}, 'collect', ...operator('jane'))).stdout).toContain('0 blobs removed');
  }, 180_000);
});

describe('replicas on data roots of their own', () => {
  it('know each other by the Redis they share', async () => {
    const redis = await startRedis({ place: host, args: ['--unixsocketperm', '777'] });
    chmodSync(redis.process.directory, 0o755);
    const ports = [5601, 5602];
    try {
      for (const port of ports) {
        await mustRegistry({ REDIS_URL: redis.url }, 'up', '--listen', `127.0.0.1:${port}`, '--data-root', file(`replica-${port}`));
      }
      const both = async (): Promise<boolean> => {
        const status = await host.sh(ports.map((port) => `curl -sS http://127.0.0.1:${port}/flotilla/v1/status`).join('; echo; '));
        return status.split('\n').every((text) => (JSON.parse(text) as { replicas: number }).replicas === 2);
      };
      await waitFor(both, { what: 'both replicas', timeoutMs: 30_000 });
    } finally {
      for (const port of ports) await registry('down', '--data-root', file(`replica-${port}`));
      await redis.stop();
    }
  }, 180_000);
});
