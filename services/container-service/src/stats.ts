/**
 * Samples of containers' counters as the Engine API shows them. However many clients watch a container, it is sampled once a
 * second and every watcher gets that sample.
 */
import { readFileSync } from 'node:fs';
import type { ContainerStats, CpuStats, NetworkStats } from '@flotilla/engine-api';
import { hasCode } from '@flotilla/syscalls';
import type { Group } from './cgroups/index.ts';

/** A container as the sampler needs it; what can change is asked anew for each sample. */
export interface StatsTarget {
  readonly id: string;
  /** with the leading slash */
  name(): string;
  /** undefined while it does not run */
  running(): { readonly group: Group; readonly pid: number; readonly ownNetwork: boolean } | undefined;
}

export interface HostCounters {
  readonly cpus: number;
  readonly memoryBytes: number;
}

const intervalMs = 1_000;
const nanosecondsPerTick = 10_000_000;
const never = '0001-01-01T00:00:00Z';
const noCpu: CpuStats = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
};

interface Watched {
  readonly target: StatsTarget;
  readonly watchers: Set<(stats: ContainerStats) => void>;
  previous: ContainerStats | undefined;
}

export class StatsSampler {
  readonly #host: HostCounters;
  readonly #watched = new Map<string, Watched>();
  #timer: NodeJS.Timeout | undefined;

  constructor(host: HostCounters) {
    this.#host = host;
  }

  /**
   * One sample a second until the signal fires. The first comes after a second: only two samples tell how busy a CPU was. While the
   * container does not run, samples are empty.
   */
  async *watch(target: StatsTarget, signal: AbortSignal): AsyncGenerator<ContainerStats> {
    let latest: ContainerStats | undefined;
    let wake: (() => void) | undefined;
    const unsubscribe = this.#subscribe(target, (stats) => {
      // A watcher too slow for a sample misses it; the next one is as good.
      latest = stats;
      wake?.();
    });
    const onAbort = (): void => wake?.();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (latest === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        const stats = latest;
        latest = undefined;
        yield stats;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      unsubscribe();
    }
  }

  /** One sample with the one a second before it, so that the client can tell CPU use. */
  async once(target: StatsTarget, signal: AbortSignal): Promise<ContainerStats> {
    if (target.running() === undefined) return emptyStats(target);
    for await (const stats of this.watch(target, signal)) return stats;
    return emptyStats(target);
  }

  /** One sample at once, without another to compare with. */
  oneShot(target: StatsTarget): ContainerStats {
    return sample(target, this.#host, undefined);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#watched.clear();
  }

  #subscribe(target: StatsTarget, watcher: (stats: ContainerStats) => void): () => void {
    let watched = this.#watched.get(target.id);
    if (watched === undefined) {
      watched = { target, watchers: new Set(), previous: sample(target, this.#host, undefined) };
      this.#watched.set(target.id, watched);
    }
    const { watchers } = watched;
    watchers.add(watcher);
    this.#timer ??= setInterval(() => this.#sampleAll(), intervalMs);
    return () => {
      watchers.delete(watcher);
      if (watchers.size > 0) return;
      this.#watched.delete(target.id);
      if (this.#watched.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  #sampleAll(): void {
    for (const watched of this.#watched.values()) {
      const stats = sample(watched.target, this.#host, watched.previous);
      watched.previous = stats;
      for (const watcher of watched.watchers) watcher(stats);
    }
  }
}

/** What dockerd sends for a container that does not run. */
export function emptyStats(target: StatsTarget): ContainerStats {
  return {
    name: target.name(),
    id: target.id,
    read: never,
    preread: never,
    pids_stats: {},
    blkio_stats: {
      io_service_bytes_recursive: null,
      io_serviced_recursive: null,
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    num_procs: 0,
    storage_stats: {},
    cpu_stats: noCpu,
    precpu_stats: noCpu,
    memory_stats: {},
  };
}

function sample(target: StatsTarget, host: HostCounters, previous: ContainerStats | undefined): ContainerStats {
  const running = target.running();
  if (running === undefined) return emptyStats(target);
  const counters = running.group.sample();
  const networks = running.ownNetwork ? networkCounters(running.pid) : undefined;
  const before = previous !== undefined && previous.read !== never ? previous : undefined;
  return {
    name: target.name(),
    id: target.id,
    read: new Date().toISOString(),
    preread: before?.read ?? never,
    pids_stats: counters.pids,
    blkio_stats: counters.blkio,
    num_procs: 0,
    storage_stats: {},
    cpu_stats: { ...counters.cpu, system_cpu_usage: systemCpuNanoseconds(), online_cpus: host.cpus },
    precpu_stats: before?.cpu_stats ?? noCpu,
    memory_stats: { ...counters.memory, limit: Math.min(counters.memory.limit ?? host.memoryBytes, host.memoryBytes) },
    ...(networks === undefined ? {} : { networks }),
  };
}

/** All time of all CPUs since boot: user, nice, system, idle, iowait, irq, softirq. */
function systemCpuNanoseconds(): number {
  return parseSystemCpu(readFileSync('/proc/stat', 'utf8'));
}

/** @param stat - the text of /proc/stat. */
export function parseSystemCpu(stat: string): number {
  const [first = ''] = stat.split('\n', 1);
  const ticks = first.trim().split(/\s+/).slice(1, 8);
  return ticks.reduce((sum, value) => sum + Number(value), 0) * nanosecondsPerTick;
}

/** The counters of the interfaces in a process' network namespace; undefined once it is gone. */
function networkCounters(pid: number): Record<string, NetworkStats> | undefined {
  try {
    return parseNetworkCounters(readFileSync(`/proc/${pid}/net/dev`, 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH', 'EINVAL')) return undefined;
    throw error;
  }
}

/** @param text - of /proc/net/dev; the loopback, and the tunnels the kernel puts into every namespace, are left out. */
export function parseNetworkCounters(text: string): Record<string, NetworkStats> {
  const counters: Record<string, NetworkStats> = {};
  for (const line of text.split('\n').slice(2)) {
    const [name = '', values = ''] = line.split(':');
    const fields = values.trim().split(/\s+/).map(Number);
    const interfaceName = name.trim();
    if (
      fields.length < 16 ||
      interfaceName === 'lo' ||
      /^(sit|tunl|gre|gretap|erspan|ip_vti|ip6_vti|ip6tnl|ip6gre)\d+$/.test(interfaceName)
    )
      continue;
    const field = (index: number): number => fields[index] ?? 0;
    counters[interfaceName] = {
      rx_bytes: field(0),
      rx_packets: field(1),
      rx_errors: field(2),
      rx_dropped: field(3),
      tx_bytes: field(8),
      tx_packets: field(9),
      tx_errors: field(10),
      tx_dropped: field(11),
    };
  }
  return counters;
}
