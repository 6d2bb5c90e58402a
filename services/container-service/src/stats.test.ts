import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { CgroupSample, Group } from './cgroups/index.ts';
import { parseNetworkCounters, parseSystemCpu, StatsSampler, type StatsTarget } from './stats.ts';

const host = { cpus: 4, memoryBytes: 8 << 20 };

class FakeContainer implements StatsTarget {
  readonly id = 'abc';
  samples = 0;
  isRunning = true;

  name(): string {
    return '/ship';
  }
  running(): ReturnType<StatsTarget['running']> {
    const group = { sample: () => this.#sample() } as Pick<Group, 'sample'> as Group;
    return this.isRunning ? { group, pid: process.pid, ownNetwork: false } : undefined;
  }
  #sample(): CgroupSample {
    this.samples += 1;
    return {
      cpu: {
        cpu_usage: { total_usage: this.samples * 1000, usage_in_kernelmode: 0, usage_in_usermode: 0 },
        throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
      },
      memory: { usage: 5 },
      blkio: {} as CgroupSample['blkio'],
      pids: { current: 1 },
    };
  }
}

describe('the sampler', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('samples once for all who watch, and stops with the last', async () => {
    const container = new FakeContainer();
    const sampler = new StatsSampler(host);
    const abort = new AbortController();
    const watchers = [1, 2, 3].map(() => sampler.watch(container, abort.signal));
    const first = watchers.map((watcher) => watcher.next());
    await vi.advanceTimersByTimeAsync(1_000);
    const stats = (await Promise.all(first)).map((result) => result.value);
    expect(container.samples).toBe(2);
    expect(stats[0]).toBe(stats[2]);
    expect(stats[0]).toMatchObject({
      name: '/ship',
      cpu_stats: { cpu_usage: { total_usage: 2000 }, online_cpus: 4 },
      precpu_stats: { cpu_usage: { total_usage: 1000 } },
      memory_stats: { usage: 5, limit: 8 << 20 },
    });
    abort.abort();
    for (const watcher of watchers) expect((await watcher.next()).done).toBe(true);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(container.samples).toBe(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('gives empty samples while the container does not run', async () => {
    const container = new FakeContainer();
    container.isRunning = false;
    const stats = await new StatsSampler(host).once(container, new AbortController().signal);
    expect(stats).toMatchObject({ id: 'abc', read: '0001-01-01T00:00:00Z', memory_stats: {} });
    expect(stats.networks).toBeUndefined();
  });

  it('compares with nothing in one shot', () => {
    const stats = new StatsSampler(host).oneShot(new FakeContainer());
    expect(stats.preread).toBe('0001-01-01T00:00:00Z');
    expect(stats.precpu_stats.system_cpu_usage).toBeUndefined();
  });
});

it('adds up the time of all CPUs', () => {
  expect(parseSystemCpu('cpu  1 2 3 4 5 6 7 100 200 300\ncpu0 1 1 1 1\n')).toBe(28 * 10_000_000);
});

it('reads the interfaces of a namespace', () => {
  const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    1234      12    1    2    0     0          0         0     5678      56    3    4    0     0       0          0
  sit0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
`;
  expect(parseNetworkCounters(text)).toEqual({
    eth0: { rx_bytes: 1234, rx_packets: 12, rx_errors: 1, rx_dropped: 2, tx_bytes: 5678, tx_packets: 56, tx_errors: 3, tx_dropped: 4 },
  });
});
