/** `docker stats` and the API under it, beside what the kernel has in the container's control group and network namespace at the same moment. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);

interface Counters {
  readonly memory_stats: { usage: number; limit: number; stats: Record<string, number> };
  readonly networks: Record<string, Record<string, number>>;
  readonly blkio_stats: { io_service_bytes_recursive: { major: number; minor: number; op: string; value: number }[] };
  readonly pids_stats: { current: number; limit: number };
  readonly cpu_stats: { cpu_usage: { total_usage: number } };
}

/** A control file of the group that a process is in, v1 or v2. */
function control(pid: string, controller: string, v1: string, v2: string): string {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const legacy = groups.find(([, controllers = '']) => controllers.split(',').includes(controller))?.[2];
  if (legacy !== undefined) return readFileSync(join('/sys/fs/cgroup', controller, legacy, v1), 'utf8');
  return readFileSync(join('/sys/fs/cgroup', groups.find(([number]) => number === '0')?.[2] ?? '', v2), 'utf8');
}

const numberIn = (text: string, name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);

/** What the kernel says of a container: asked before and after, a sample has to lie between. */
function ofKernel(pid: string): { memory: number; inactive: number; cpu: number; received: Record<string, number> } {
  const stat = control(pid, 'memory', 'memory.stat', 'memory.stat');
  const cpu = control(pid, 'cpuacct', 'cpuacct.usage', 'cpu.stat');
  const interfaces = readFileSync(`/proc/${pid}/net/dev`, 'utf8').matchAll(/^\s*(eth\d+):\s*(\d+)/gm);
  return {
    memory: Number(control(pid, 'memory', 'memory.usage_in_bytes', 'memory.current')),
    inactive: numberIn(stat, 'total_inactive_file') || numberIn(stat, 'inactive_file'),
    cpu: /^\d+\s*$/.test(cpu) ? Number(cpu) : numberIn(cpu, 'usage_usec') * 1000,
    received: Object.fromEntries([...interfaces].map(([, name = '', bytes]) => [name, Number(bytes)])),
  };
}

/** `major:minor op` → bytes, as the kernel has written them down. */
function blockBytes(pid: string): Record<string, number> {
  const text = control(pid, 'blkio', 'blkio.throttle.io_service_bytes_recursive', 'io.stat');
  const legacy = [...text.matchAll(/^(\d+:\d+) (Read|Write) (\d+)$/gm)].map(([, device, op, bytes]) => [`${device} ${op}`, Number(bytes)]);
  const unified = [...text.matchAll(/^(\d+:\d+) rbytes=(\d+) wbytes=(\d+)/gm)].flatMap(([, device, read, written]) => [
    [`${device} Read`, Number(read)],
    [`${device} Write`, Number(written)],
  ]);
  return Object.fromEntries([...legacy, ...unified]);
}

async function counters(container: string): Promise<Counters> {
  const { json } = await engineApi(stack.host, 'GET', `/v1.50/containers/${container}/stats?stream=false&one-shot=true`);
  return json as Counters;
}

describe('docker stats', () => {
  it('shows what the kernel says: memory without the cache that is free to go, each network, block devices, processes', async () => {
    for (const network of ['first', 'second']) await must('network', 'create', network);
    await must(
      'run',
      '-d',
      '--name',
      'server',
      '--network',
      'second',
      stack.busybox,
      'sh',
      '-c',
      'mkdir /w; head -c 300000 /dev/zero >/w/big; httpd -f -h /w',
    );
    // A file on a volume, read past the cache: block devices count what the container itself asks for.
    const script =
      'head -c 8000000 /dev/urandom >/v/file; sync; dd if=/v/file of=/dev/null bs=1M iflag=direct 2>/dev/null; cat /v/file >/dev/null; touch /ready; sleep 600 & wait';
    await must(
      'run',
      '-d',
      '--name',
      'watched',
      '--network',
      'first',
      '-v',
      '/v',
      '--memory',
      '64m',
      '--pids-limit',
      '50',
      stack.busybox,
      'sh',
      '-c',
      script,
    );
    await must('network', 'connect', 'second', 'watched');
    await waitFor(async () => (await stack.host.docker('exec', 'watched', 'test', '-e', '/ready')).code === 0);
    await must('exec', 'watched', 'wget', '-qO', '/dev/null', 'http://server/big');
    const pid = await must('inspect', '-f', '{{.State.Pid}}', 'watched');

    // Between two equal looks at the kernel, a sample must be equal too.
    await waitFor(
      async () => {
        const before = ofKernel(pid);
        const seen = await counters('watched');
        const after = ofKernel(pid);
        const between = (value: number, name: 'memory' | 'inactive' | 'cpu'): boolean =>
          value >= Math.min(before[name], after[name]) && value <= Math.max(before[name], after[name]);
        const { usage, stats } = seen.memory_stats;
        const received = Object.entries(after.received).every(
          ([name, bytes]) =>
            (seen.networks[name]?.rx_bytes ?? -1) <= bytes && (seen.networks[name]?.rx_bytes ?? -1) >= (before.received[name] ?? 0),
        );
        return (
          between(usage, 'memory') &&
          between(stats.total_inactive_file ?? stats.inactive_file ?? -1, 'inactive') &&
          between(seen.cpu_stats.cpu_usage.total_usage, 'cpu') &&
          received
        );
      },
      { what: 'a sample that says what the kernel says' },
    );

    const seen = await counters('watched');
    expect(seen.memory_stats.limit).toBe(64 << 20);
    expect(seen.pids_stats).toEqual({ current: 2, limit: 50 });
    expect(Object.keys(seen.networks).sort()).toEqual(['eth0', 'eth1']);
    expect(seen.networks.eth1?.rx_bytes).toBeGreaterThan(300_000);
    expect(seen.networks.eth0?.rx_bytes).toBeLessThan(300_000);
    const entries = seen.blkio_stats.io_service_bytes_recursive.filter(({ op }) => /^(read|write)$/i.test(op));
    const shown = Object.fromEntries(
      entries.map(({ major, minor, op, value }) => [`${major}:${minor} ${op.charAt(0).toUpperCase()}${op.slice(1)}`, value]),
    );
    expect(shown).toEqual(blockBytes(pid));

    // The client's own arithmetic on it: 8 MB of cache are not in use.
    const [memory, network, processes] = (
      await must('stats', '--no-stream', '--format', '{{.MemUsage}}|{{.NetIO}}|{{.PIDs}}', 'watched')
    ).split('|');
    const { memory: usage, inactive } = ofKernel(pid);
    expect(inactive).toBeGreaterThan(4_000_000);
    expect(memory).toMatch(/ \/ 64MiB$/);
    expect(Math.abs(bytesOf(memory ?? '') - (usage - inactive))).toBeLessThan(1_000_000);
    expect(network).toMatch(/^3\d\dkB \/ /);
    expect(processes).toBe('2');
    await must('rm', '-fv', 'watched', 'server');
    await must('network', 'rm', 'first', 'second');
  });

  it('lists what runs, and says nothing of what does not', async () => {
    await must('run', '-d', '--name', 'runs', '--network', 'none', stack.busybox, 'sleep', '600');
    await must('create', '--name', 'rests', stack.busybox);
    expect(await must('stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}} {{.NetIO}}')).toBe('runs 1 0B / 0B');
    expect((await must('stats', '--no-stream', '--all', '--format', '{{.Name}} {{.PIDs}}')).split('\n').sort()).toEqual([
      'rests 0',
      'runs 1',
    ]);
    await must('rm', '-f', 'runs', 'rests');
  });
});

/** The first size of `1.5MiB / 64MiB`. */
function bytesOf(text: string): number {
  const [, number = '', unit = ''] = /^([\d.]+)(\w+)/.exec(text) ?? [];
  return Number(number) * ({ B: 1, KiB: 1024, MiB: 1024 ** 2 }[unit] ?? Number.NaN);
}
