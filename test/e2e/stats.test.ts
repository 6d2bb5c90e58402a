/** `docker stats` and the API under it, beside what the kernel has in the container's control group and network namespace at the same moment. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { parseMetrics } from './metricsText.ts';
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

describe('metrics', () => {
  const scrape = async () => parseMetrics((await engineApi(stack.host, 'GET', '/metrics')).text);
  type Scraped = Awaited<ReturnType<typeof scrape>>;
  const sampled = (scraped: Scraped, name: string, labels: Record<string, string>): number | undefined =>
    scraped.get(name)?.samples.find((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))?.value;

  it('say what each container uses, as docker stats does', async () => {
    const work =
      'head -c 3000000 /dev/urandom >/v/file; sync; dd if=/v/file of=/dev/null bs=1M iflag=direct 2>/dev/null; touch /ready; httpd -f -h /v';
    await must('run', '-d', '--name', 'measured', '--memory', '64m', '-v', '/v', stack.busybox, 'sh', '-c', work);
    await must('run', '-d', '--name', 'paused', '--network', 'none', stack.busybox, 'sleep', '600');
    await must('pause', 'paused');
    await must('create', '--name', 'made', stack.busybox);
    await waitFor(async () => (await stack.host.docker('exec', 'measured', 'test', '-e', '/ready')).code === 0);
    const address = await must('inspect', '-f', '{{.NetworkSettings.IPAddress}}', 'measured');
    await stack.host.mustRun('curl', ['-so', '/dev/null', `http://${address}/file`]);
    const before = await counters('measured');
    const scraped = await scrape();
    const after = await counters('measured');

    const of = (name: string, more: Record<string, string> = {}): number =>
      sampled(scraped, `flotilla_container_${name}`, { name: 'measured', ...more }) ?? Number.NaN;
    const lies = (value: number, count: (each: Counters) => number): void => {
      expect(value).toBeGreaterThanOrEqual(Math.min(count(before), count(after)));
      expect(value).toBeLessThanOrEqual(Math.max(count(before), count(after)));
    };
    const blocks = (each: Counters, op: RegExp): number =>
      each.blkio_stats.io_service_bytes_recursive.filter((entry) => op.test(entry.op)).reduce((sum, { value }) => sum + value, 0);
    lies(of('cpu_seconds_total'), ({ cpu_stats }) => cpu_stats.cpu_usage.total_usage / 1e9);
    lies(of('network_receive_bytes_total', { interface: 'eth0' }), ({ networks }) => networks.eth0?.rx_bytes ?? -1);
    lies(of('network_transmit_bytes_total', { interface: 'eth0' }), ({ networks }) => networks.eth0?.tx_bytes ?? -1);
    expect(of('network_transmit_bytes_total', { interface: 'eth0' })).toBeGreaterThan(3_000_000);
    lies(of('block_read_bytes_total'), (each) => blocks(each, /^read$/i));
    lies(of('block_write_bytes_total'), (each) => blocks(each, /^write$/i));
    lies(of('memory_limit_bytes'), ({ memory_stats }) => memory_stats.limit);
    lies(of('processes'), ({ pids_stats }) => pids_stats.current);
    const [memory = ''] = (await must('stats', '--no-stream', '--format', '{{.MemUsage}}', 'measured')).split('/');
    expect(Math.abs(of('memory_usage_bytes') - bytesOf(memory))).toBeLessThan(1_000_000);
    const samples = scraped.get('flotilla_container_cpu_seconds_total');
    expect(samples?.type).toBe('counter');
    expect(samples?.samples.map(({ labels }) => labels.name).sort()).toEqual(['measured', 'paused']);
    expect(samples?.samples.find(({ labels }) => labels.name === 'measured')?.labels).toEqual({
      id: await must('inspect', '-f', '{{.Id}}', 'measured'),
      name: 'measured',
      image: stack.busybox,
    });
    expect(['running', 'paused', 'stopped'].map((state) => sampled(scraped, 'flotilla_containers', { state }))).toEqual([1, 1, 1]);
    await must('rm', '-fv', 'measured', 'paused', 'made');
    expect((await scrape()).get('flotilla_container_cpu_seconds_total')?.samples).toEqual([]);
  });

  it('say which streams are under way, and how long requests took', async () => {
    await must('run', '-d', '--name', 'talks', '--network', 'none', stack.busybox, 'sleep', '600');
    const clients = [stack.host.dockerSpawn('events'), stack.host.dockerSpawn('events'), stack.host.dockerSpawn('logs', '-f', 'talks')];
    const streams = async (): Promise<(number | undefined)[]> => {
      const scraped = await scrape();
      return ['SystemEvents', 'ContainerLogs'].map((operation) => sampled(scraped, 'flotilla_gateway_streams', { operation }));
    };
    await waitFor(async () => JSON.stringify(await streams()) === '[2,1]', { what: 'three streams' });
    for (const client of clients) client.kill();
    await waitFor(async () => JSON.stringify(await streams()) === '[0,0]', { what: 'the end of the streams' });
    const histogram = (await scrape()).get('flotilla_gateway_request_seconds');
    expect(histogram?.type).toBe('histogram');
    const asked = { method: 'POST', path: '/containers/create' };
    const counted = histogram?.samples.filter(({ labels }) => labels.method === asked.method && labels.path === asked.path) ?? [];
    expect(counted.find(({ name }) => name.endsWith('_count'))?.value).toBeGreaterThan(0);
    expect(counted.find(({ name }) => name.endsWith('_sum'))?.value).toBeGreaterThan(0);
    await must('rm', '-f', 'talks');
  });
});

/** The first size of `1.5MiB / 64MiB`. */
function bytesOf(text: string): number {
  const [, number = '', unit = ''] = /^([\d.]+)(\w+)/.exec(text) ?? [];
  return Number(number) * ({ B: 1, KiB: 1024, MiB: 1024 ** 2 }[unit] ?? Number.NaN);
}
