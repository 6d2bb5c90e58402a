/** A whole stack by the flotilla command, with the real services, in a test host of its own. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createTestHost, type StackProcess, type TestHost, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAlive, startTimeOf } from '../src/supervisor/process.ts';
import { readState } from '../src/supervisor/state.ts';

const services = ['container-service', 'gateway', 'image-service', 'network-volume', 'registry-proxy'];

let host: TestHost;

beforeAll(async () => {
  host = await createTestHost();
  await host.startStack();
}, 120_000);

afterAll(async () => {
  await host?.dispose();
});

/** Asks the engine, from inside the host; curl waits as long as the kernel queues. */
async function ping(): Promise<string> {
  return host.sh(`curl --silent --show-error --max-time 20 --unix-socket ${host.socketPath} http://docker/_ping`);
}

function supervisorPid(): number {
  return readState(join(host.execRoot, 'supervisor/state.json'))?.supervisorPid ?? 0;
}

function pids(processes: readonly StackProcess[]): Record<string, number> {
  return Object.fromEntries(processes.map((item) => [item.service, item.pid]));
}

describe('flotilla up', () => {
  it('returns when every service is healthy', async () => {
    const processes = await host.processes();
    expect(processes.map((item) => item.service).sort()).toEqual([...services, 'nats', 'redis'].sort());
    expect(processes.every((item) => item.healthy && item.pid > 1 && item.instance.length === 8)).toBe(true);
    expect(await ping()).toBe('OK');
  });

  it('runs what speaks to strangers without any right', async () => {
    const running = pids(await host.processes());
    for (const service of ['gateway', 'registry-proxy']) {
      const status = readFileSync(`/proc/${running[service]}/status`, 'utf8');
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^CapBnd:\s+0+$/m);
      expect(status).not.toMatch(/^Uid:\s+0\b/m);
    }
    // What can raise a container's rights keeps the whole bounding set.
    const boundingSet = (path: string): string | undefined => /^CapBnd:\s+(\S+)$/m.exec(readFileSync(path, 'utf8'))?.[1];
    expect(boundingSet(`/proc/${running['container-service']}/status`)).toBe(boundingSet('/proc/self/status'));
    expect(statSync(host.socketPath).mode & 0o777).toBe(0o660);
    expect(statSync(join(host.dataRoot, 'secrets')).mode & 0o777).toBe(0o700);
    expect(statSync(join(host.execRoot, 'sockets/container-service')).mode & 0o7777).toBe(0o2750);
  });

  it('lets registry-proxy dial no other service, and a service no keys but its own', async () => {
    const dial = `setpriv --reuid=flotilla-registry --regid=flotilla-registry --clear-groups ls ${host.execRoot}/sockets/container-service`;
    expect((await host.run('sh', ['-c', dial])).code).not.toBe(0);
    const secret = JSON.parse(readFileSync(join(host.dataRoot, 'secrets/registry-proxy.json'), 'utf8')) as { redis: string };
    const redis = `redis-cli -s ${host.execRoot}/redis/redis.sock --user registry-proxy --pass ${secret.redis} --no-auth-warning`;
    const engineId = readFileSync(join(host.dataRoot, 'engine-id'), 'utf8').trim();
    expect(await host.sh(`${redis} get 'flotilla:{${engineId}:registry-proxy}:x'`)).toBe('\n');
    expect(await host.sh(`${redis} get 'flotilla:{${engineId}:container-service}:x'`)).toContain('NOPERM');
    expect(await host.sh(`redis-cli -s ${host.execRoot}/redis/redis.sock ping`)).toContain('NOAUTH');
  });

  it('is harmless a second time', async () => {
    const before = pids(await host.processes());
    const again = await host.flotilla('up');
    expect(again.code).toBe(0);
    expect(again.stdout).toContain('already running');
    expect(pids(await host.processes())).toEqual(before);
  });

  it('refuses what cannot be right before it touches anything', async () => {
    const refused = await host.flotilla('up', '--bip', '10.0.0.300/24');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('flotilla: invalid argument "10.0.0.300/24" for "--bip" flag: invalid CIDR address');
  });
});

describe('a killed process', () => {
  it.each([...services, 'redis', 'nats'])(
    '%s is back',
    async (service) => {
      const killed = await host.kill(service);
      await host.waitHealthy(service, killed, 20_000);
      const others = (await host.processes()).filter((item) => item.service !== service);
      expect(others.length).toBe(6);
      await waitFor(async () => (await host.processes()).every((item) => item.healthy), { what: 'all to be healthy', timeoutMs: 20_000 });
    },
    60_000,
  );

  it('refuses nobody where it is the gateway: the kernel queues', async () => {
    await host.kill('gateway');
    expect(await ping()).toBe('OK');
  });

  it('is given its turn by restart, too', async () => {
    const before = pids(await host.processes());
    expect((await host.flotilla('restart', 'registry-proxy')).code).toBe(0);
    const after = pids(await host.processes());
    expect(after['registry-proxy']).not.toBe(before['registry-proxy']);
    expect(after.gateway).toBe(before.gateway);
  });
});

describe('a killed supervisor', () => {
  it('leaves services that go on, and the next up takes them over with their sockets', async () => {
    const before = pids(await host.processes());
    const killed = supervisorPid();
    process.kill(killed, 'SIGKILL');
    await waitFor(() => startTimeOf(killed) === undefined, { what: 'the supervisor to be gone' });
    expect(await ping()).toBe('OK');
    expect((await host.flotilla('ps')).stderr).toContain('the supervisor is gone');

    expect((await host.flotilla('up', '--host', `unix://${host.socketPath}`)).code).toBe(0);
    expect(pids(await host.processes())).toEqual(before);
    expect(supervisorPid()).not.toBe(killed);

    const gateway = await host.kill('gateway');
    expect(await ping()).toBe('OK');
    await host.waitHealthy('gateway', gateway);
  }, 60_000);

  it('is not needed to stop the stack', async () => {
    const identities = (await host.processes()).map((item) => ({ pid: item.pid, startTime: startTimeOf(item.pid) ?? '' }));
    const killed = supervisorPid();
    process.kill(killed, 'SIGKILL');
    await waitFor(() => startTimeOf(killed) === undefined, { what: 'the supervisor to be gone' });
    await host.stopStack();
    expect(identities.filter(isAlive)).toEqual([]);
    expect(existsSync(host.socketPath)).toBe(false);
    expect(await host.processes()).toEqual([]);
  }, 60_000);
});

describe('flotilla down and up', () => {
  it('stops every process and starts the same engine again', async () => {
    const engineId = readFileSync(join(host.dataRoot, 'engine-id'), 'utf8');
    await host.startStack({ args: ['--label', 'lab=one'] });
    expect(readFileSync(join(host.dataRoot, 'engine-id'), 'utf8')).toBe(engineId);
    const info = JSON.parse(await host.sh(`curl -s --unix-socket ${host.socketPath} http://docker/info`)) as { Labels: string[] };
    expect(info.Labels).toEqual(['lab=one']);
    await host.stopStack();
    expect((await host.flotilla('down')).stdout).toContain('not running');
  }, 60_000);

  it('serves tcp by TLS only to whoever has a certificate', async () => {
    const tls = join(host.filesDirectory, 'tls');
    await host.sh(`
      mkdir ${tls}; cd ${tls}
      openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -subj /CN=ca -days 2 2>/dev/null
      for who in server client; do
        openssl req -newkey rsa:2048 -nodes -keyout $who-key.pem -out $who.csr -subj /CN=$who 2>/dev/null
        printf 'subjectAltName=IP:127.0.0.1' > ext
        openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out $who.pem -days 2 -extfile ext 2>/dev/null
      done`);
    const files = ['--tlscacert', `${tls}/ca.pem`, '--tlscert', `${tls}/server.pem`, '--tlskey', `${tls}/server-key.pem`];
    await host.startStack({ args: ['-H', 'tcp://127.0.0.1:23760', '--tlsverify', ...files] });
    const ask = `curl --silent --max-time 10 --cacert ${tls}/ca.pem https://127.0.0.1:23760/_ping`;
    expect(await host.sh(`${ask} --cert ${tls}/client.pem --key ${tls}/client-key.pem`)).toBe('OK');
    expect((await host.run('sh', ['-c', ask])).stdout).toBe('');
    expect(await ping()).toBe('OK');
    await host.stopStack();
  }, 60_000);

  it('--foreground stays until SIGTERM, and then stops everything', async () => {
    const script = join(import.meta.dirname, '../flotilla');
    const args = ['up', '--foreground', '--data-root', host.dataRoot, '--exec-root', host.execRoot, '--host', `unix://${host.socketPath}`];
    await host.stopStack();
    const child = host.spawn('sh', [script, ...args], { stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    await waitFor(async () => (await host.processes().catch(() => [])).filter((item) => item.healthy).length === 7, {
      what: 'the stack to be healthy',
      timeoutMs: 60_000,
    });
    expect(supervisorPid()).toBe(child.pid);
    const before = (await host.processes()).map(({ pid }) => pid).sort();
    child.kill('SIGKILL');
    await ended;
    // The lock went with it: the next one takes over what runs.
    const next = host.spawn('sh', [script, ...args], { stdio: 'ignore' });
    const nextEnded = new Promise<number | null>((resolve) => next.once('exit', resolve));
    await waitFor(() => supervisorPid() === next.pid, { what: 'the next supervisor', timeoutMs: 30_000 });
    await waitFor(async () => (await host.processes().catch(() => [])).filter((item) => item.healthy).length === 7, {
      what: 'the stack to be healthy',
      timeoutMs: 60_000,
    });
    expect((await host.processes()).map(({ pid }) => pid).sort()).toEqual(before);
    next.kill('SIGTERM');
    expect(await nextEnded).toBe(0);
    expect(await host.processes()).toEqual([]);
  }, 120_000);
});

describe('two stacks', () => {
  it('with other roots and networks never meet', async () => {
    const other = await createTestHost();
    try {
      await host.startStack();
      await other.startStack();
      expect(readFileSync(join(other.dataRoot, 'engine-id'), 'utf8')).not.toBe(readFileSync(join(host.dataRoot, 'engine-id'), 'utf8'));
      await other.stopStack();
      expect(await ping()).toBe('OK');
      expect((await host.processes()).every((item) => item.healthy)).toBe(true);
    } finally {
      await other.dispose();
      await host.stopStack();
    }
  }, 120_000);
});
