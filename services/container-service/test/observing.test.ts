/** Reading a container from outside: health, stats, logs over rotation, slow readers, files in and out. */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerStats } from '@flotilla/engine-api';
import { dialTicket } from '@flotilla/streams';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { encodeHeader, paddingBytes } from '../src/archive/tarFormat.ts';
import { readTar } from '../src/archive/tarReader.ts';
import { create, inspect, logsOf, readTicket, remove, type Stack, startStack, wait } from './stack.ts';

let stack: Stack;
const made: string[] = [];
beforeAll(async () => {
  stack = await startStack();
});
afterEach(async () => {
  for (const id of made.splice(0)) await remove(stack, id);
});
afterAll(() => stack.stop());

const second = 1_000_000_000;

async function run(command: readonly string[], options: Parameters<typeof create>[2] = {}): Promise<string> {
  const id = await create(stack, command, options);
  made.push(id);
  await stack.containers.start({ container: id });
  return id;
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`it did not come true in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('health', () => {
  test('goes from starting to healthy to unhealthy, with the last results', async () => {
    const id = await run(['sleep', '60'], {
      config: {
        Healthcheck: {
          Test: ['CMD-SHELL', 'echo looked; test -f /tmp/ok'],
          Interval: 0.1 * second,
          Retries: 2,
          StartPeriod: 60 * second,
          StartInterval: 0.05 * second,
        },
      },
    });
    expect((await inspect(stack, id)).State.Health?.Status).toBe('starting');
    const pid = (await inspect(stack, id)).State.Pid;
    await until(async () => ((await inspect(stack, id)).State.Health?.Log?.length ?? 0) > 0, 'a failed look');
    expect((await inspect(stack, id)).State.Health).toMatchObject({ Status: 'starting', FailingStreak: 0 });
    writeFileSync(`/proc/${pid}/root/tmp/ok`, '');
    await until(async () => (await inspect(stack, id)).State.Health?.Status === 'healthy', 'healthy');
    rmSync(`/proc/${pid}/root/tmp/ok`);
    await until(async () => (await inspect(stack, id)).State.Health?.Status === 'unhealthy', 'unhealthy');
    const health = (await inspect(stack, id)).State.Health;
    expect(health?.Log?.at(-1)).toMatchObject({ ExitCode: 1, Output: 'looked\n' });
    expect(health?.Log?.length).toBeLessThanOrEqual(5);
  });

  test('says that a look took too long, and leaves no process behind', async () => {
    const id = await run(['sleep', '60'], {
      config: { Healthcheck: { Test: ['CMD', 'sleep', '31.4'], Interval: 0.05 * second, Timeout: 0.3 * second, Retries: 1 } },
    });
    await until(async () => (await inspect(stack, id)).State.Health?.Status === 'unhealthy', 'unhealthy');
    expect((await inspect(stack, id)).State.Health?.Log?.[0]).toMatchObject({
      ExitCode: -1,
      Output: 'Health check exceeded timeout (300ms)',
    });
    await stack.containers.pause({ container: id });
    await until(async () => {
      const { processes } = await stack.containers.top({ container: id, psArgs: '' });
      return processes.filter(({ fields }) => fields.join(' ').includes('31.4')).length === 0;
    }, 'no probe is left');
    await stack.containers.unpause({ container: id });
  });

  test('restarts what asks for it when it is unhealthy', async () => {
    const id = await run(['sleep', '60'], {
      config: {
        Labels: { 'flotilla.restart-unhealthy': 'true' },
        Healthcheck: { Test: ['CMD', 'false'], Interval: 0.2 * second, Retries: 1 },
      },
      hostConfig: {},
    });
    await stack.containers.update({ container: id, updateJson: Buffer.from('{}') });
    const before = (await inspect(stack, id)).State.StartedAt;
    await until(async () => (await inspect(stack, id)).State.StartedAt !== before, 'a new start');
  }, 40_000);
});

describe('stats', () => {
  test('say what the kernel says', async () => {
    const id = await run(['sh', '-c', 'while :; do :; done'], { hostConfig: { Memory: 32 << 20, NanoCpus: 500_000_000, PidsLimit: 7 } });
    const samples: ContainerStats[] = [];
    for await (const { statsJson } of stack.containers.stats(
      { container: id, stream: true, oneShot: false },
      { signal: AbortSignal.timeout(10_000) },
    )) {
      samples.push(JSON.parse(statsJson.toString()) as ContainerStats);
      if (samples.length === 2) break;
    }
    const last = samples[1];
    if (last === undefined) throw new Error('no sample');
    expect(last).toMatchObject({ id, memory_stats: { limit: 32 << 20 }, pids_stats: { current: 1, limit: 7 } });
    // As the CLI reckons it: half of one CPU is 50 %, and less where others want the machine too.
    const cpu = last.cpu_stats.cpu_usage.total_usage - last.precpu_stats.cpu_usage.total_usage;
    const system = (last.cpu_stats.system_cpu_usage ?? 0) - (last.precpu_stats.system_cpu_usage ?? 0);
    const percent = (cpu / system) * (last.cpu_stats.online_cpus ?? 0) * 100;
    expect(percent).toBeGreaterThan(1);
    expect(percent).toBeLessThan(65);
  });

  test('of a container that does not run are empty', async () => {
    const id = await create(stack, ['true']);
    made.push(id);
    for await (const { statsJson } of stack.containers.stats({ container: id, stream: false, oneShot: false })) {
      expect(JSON.parse(statsJson.toString())).toMatchObject({ id, read: '0001-01-01T00:00:00Z', memory_stats: {} });
    }
  });
});

describe('logs', () => {
  const rotated = { LogConfig: { Type: 'json-file', Config: { 'max-size': '100k', 'max-file': '3' } } };

  test('are rotated while they are written, and stay within their size', async () => {
    const id = await run(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8; do seq 1 5000; sleep 0.3; done'], { hostConfig: rotated });
    expect(await wait(stack, id)).toBe(0);
    const directory = join(stack.directory, 'data/container-service/containers', id);
    const files = readdirSync(directory).filter((name) => name.includes('.log'));
    expect(files.length).toBeGreaterThan(1);
    expect(files.length).toBeLessThanOrEqual(3);
    expect((await logsOf(stack, id)).stdout.endsWith('4999\n5000\n')).toBe(true);
  });

  test('arrive whole at an attached client over rotations', async () => {
    const id = await create(stack, ['sh', '-c', 'for i in 1 2 3 4 5 6; do seq 1 20000; sleep 0.1; done'], { hostConfig: rotated });
    made.push(id);
    const { ticket } = await stack.containers.attach({
      container: id,
      logs: false,
      stream: true,
      stdin: false,
      stdout: true,
      stderr: true,
      detachKeys: '',
    });
    const output = readTicket(ticket);
    await stack.containers.start({ container: id });
    const once = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('');
    expect((await output).stdout === once.repeat(6)).toBe(true);
  });

  test('hold a container back that outruns its client, and lose nothing', async () => {
    const bytes = 200 * 1024 * 1024;
    const id = await create(stack, ['sh', '-c', `dd if=/dev/zero bs=1M count=200 2>/dev/null`]);
    made.push(id);
    const { ticket } = await stack.containers.attach({
      container: id,
      logs: false,
      stream: true,
      stdin: false,
      stdout: true,
      stderr: false,
      detachKeys: '',
    });
    if (ticket === undefined) throw new Error('no ticket');
    const stream = await dialTicket(ticket);
    await stack.containers.start({ container: id });
    // Nobody reads: the container must come to a stand, well before its end.
    const written = (): number => bytesIn(join(stack.directory, 'data/container-service/containers', id));
    await until(async () => {
      const before = written();
      await new Promise((resolve) => setTimeout(resolve, 500));
      return before > 64 * 1024 * 1024 && written() === before;
    }, 'it stands still');
    expect((await inspect(stack, id)).State.Running).toBe(true);
    expect(written()).toBeLessThan(180 * 1024 * 1024);
    let received = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) received += chunk.length;
    expect(received).toBeGreaterThanOrEqual(bytes);
    expect(received).toBeLessThan(bytes * 1.02);
    expect(await wait(stack, id)).toBe(0);
  }, 60_000);
});

describe('files', () => {
  const header = (name: string, size: number) => ({ name, type: 'file' as const, mode: 0o644, uid: 0, gid: 0, size, mtime: 1_700_000_000 });

  async function put(container: string, path: string, bytes: Buffer, copyUidGid = false): Promise<string> {
    const { ticket } = await stack.containers.putArchive({ container, path, noOverwriteDirNonDir: false, copyUidGid });
    if (ticket === undefined) throw new Error('no ticket');
    const stream = await dialTicket(ticket);
    stream.end(bytes);
    let answer = '';
    for await (const chunk of stream as AsyncIterable<Buffer>) answer += chunk.toString();
    return answer.trim();
  }

  async function get(container: string, path: string): Promise<Map<string, string>> {
    const { ticket } = await stack.containers.getArchive({ container, path });
    if (ticket === undefined) throw new Error('no ticket');
    const found = new Map<string, string>();
    for await (const entry of readTar((await dialTicket(ticket)) as AsyncIterable<Buffer>)) {
      let data = '';
      for await (const piece of entry.data()) data += piece.toString();
      found.set(entry.header.name, data);
    }
    return found;
  }

  const archive = Buffer.concat([encodeHeader(header('note', 5)), Buffer.from('hello'), Buffer.alloc(paddingBytes(5)), Buffer.alloc(1024)]);

  test('keep their owner with copyUIDGID in a container without a user; its working directory is there before it runs', async () => {
    const id = await create(stack, ['busybox', 'stat', '-c', '%u', 'note'], { config: { WorkingDir: '/made/here' } });
    made.push(id);
    const owned = Buffer.concat([encodeHeader({ ...header('note', 0), uid: 7 }), Buffer.alloc(1024)]);
    expect(await put(id, '/made/here', owned, true)).toBe('{}');
    await stack.containers.start({ container: id });
    expect(await wait(stack, id)).toBe(0);
    expect((await logsOf(stack, id)).stdout).toBe('7\n');
  });

  test.each(['running', 'stopped'])('go in and out of a %s container, its binds and a volume', async (state) => {
    const bound = join(stack.directory, `bound-${state}`);
    mkdirSync(bound);
    writeFileSync(join(bound, 'of-host'), 'x');
    const id = await create(stack, ['sleep', '60'], { hostConfig: { Binds: [`${bound}:/bound`, `vol-${state}:/vol`] } });
    made.push(id);
    await stack.containers.start({ container: id });
    if (state === 'stopped') await stack.containers.kill({ container: id, signal: 'KILL' });
    if (state === 'stopped') await wait(stack, id);
    for (const path of ['/tmp', '/bound', '/vol']) {
      expect(await put(id, path, archive)).toBe('{}');
      expect((await get(id, `${path}/note`)).get('note')).toBe('hello');
    }
    expect(readFileSync(join(bound, 'note'), 'utf8')).toBe('hello');
    expect((await get(id, '/bound')).get('bound/of-host')).toBe('x');
    expect([...(await get(id, '/')).keys()].some((name) => name.startsWith('/proc/') && name !== '/proc/')).toBe(false);
    const { pathStatJson } = await stack.containers.statArchive({ container: id, path: '/tmp/note' });
    expect(JSON.parse(pathStatJson.toString())).toMatchObject({ name: 'note', size: 5, mode: 0o644 });
    await expect(stack.containers.statArchive({ container: id, path: '/none' })).rejects.toThrow(
      'Could not find the file /none in container',
    );
    const { changes } = await stack.containers.changes({ container: id });
    expect(changes.map(({ path }) => path)).toContain('/tmp/note');
  });

  test('of a damaged archive are refused with a reason', async () => {
    const id = await create(stack, ['true']);
    made.push(id);
    expect(JSON.parse(await put(id, '/tmp', Buffer.alloc(700, 'x')))).toMatchObject({
      error: 'InvalidParameter',
      message: expect.stringContaining('invalid tar header'),
    });
  });

  test('are exported as a tree', async () => {
    const id = await create(stack, ['true']);
    made.push(id);
    const { ticket } = await stack.containers.export({ container: id });
    if (ticket === undefined) throw new Error('no ticket');
    const names: string[] = [];
    for await (const entry of readTar((await dialTicket(ticket)) as AsyncIterable<Buffer>)) names.push(entry.header.name);
    expect(names).toEqual(expect.arrayContaining(['bin/busybox', 'etc/passwd', 'data/seed']));
  });
});

function bytesIn(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + (statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}
