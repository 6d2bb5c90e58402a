/** Control groups v2: one hierarchy for all controllers. */
import type { BlkioEntry } from '@flotilla/engine-api';
import type { RuntimeResources } from '@flotilla/oci';
import { readControl, readNumber, readTable, writeControl } from './files.ts';
import type { Controls } from './group.ts';
import type { Hierarchy } from './hierarchy.ts';
import { type CgroupSample, noBlkio } from './sample.ts';

const defaultPeriodUs = 100_000;
const freezePollMs = 1;
const freezeTimeoutMs = 10_000;

export class UnifiedControls implements Controls {
  readonly #directory: string;

  constructor(hierarchy: Hierarchy, path: string) {
    const directory = hierarchy.directory('memory', path);
    if (directory === undefined) throw new Error('no cgroup hierarchy is mounted');
    this.#directory = directory;
  }

  update(resources: RuntimeResources): void {
    const { memory, cpu, pids, blockIO } = resources;
    if (memory !== undefined) this.#updateMemory(memory);
    if (cpu !== undefined) this.#updateCpu(cpu);
    if (pids !== undefined) this.#write('pids.max', pids.limit > 0 ? pids.limit : 'max');
    if (blockIO?.weight !== undefined && blockIO.weight > 0) this.#weigh('', blockIO.weight);
    for (const { major, minor, weight = 0 } of blockIO?.weightDevice ?? []) this.#weigh(`${major}:${minor} `, weight);
    for (const [key, devices] of [
      ['rbps', blockIO?.throttleReadBpsDevice],
      ['wbps', blockIO?.throttleWriteBpsDevice],
      ['riops', blockIO?.throttleReadIOPSDevice],
      ['wiops', blockIO?.throttleWriteIOPSDevice],
    ] as const) {
      for (const { major, minor, rate } of devices ?? []) this.#write('io.max', `${major}:${minor} ${key}=${rate}`);
    }
  }

  async freeze(): Promise<void> {
    this.#write('cgroup.freeze', 1);
    const deadline = Date.now() + freezeTimeoutMs;
    while (!this.frozen()) {
      if (Date.now() > deadline) {
        await this.thaw();
        throw new Error(`the processes of ${this.#directory} could not be frozen`);
      }
      await new Promise((resolve) => setTimeout(resolve, freezePollMs));
    }
  }

  async thaw(): Promise<void> {
    this.#write('cgroup.freeze', 0);
  }

  frozen(): boolean {
    return readTable(this.#directory, 'cgroup.events')?.frozen === 1;
  }

  oomKills(): number {
    return readTable(this.#directory, 'memory.events')?.oom_kill ?? 0;
  }

  /** v2 always kills. */
  outOfMemory(): boolean {
    return false;
  }

  sample(): CgroupSample {
    const cpu = readTable(this.#directory, 'cpu.stat');
    const limit = readNumber(this.#directory, 'memory.max');
    const pidsLimit = readNumber(this.#directory, 'pids.max');
    return {
      cpu: {
        cpu_usage: {
          total_usage: (cpu?.usage_usec ?? 0) * 1000,
          usage_in_kernelmode: (cpu?.system_usec ?? 0) * 1000,
          usage_in_usermode: (cpu?.user_usec ?? 0) * 1000,
        },
        throttling_data: {
          periods: cpu?.nr_periods ?? 0,
          throttled_periods: cpu?.nr_throttled ?? 0,
          throttled_time: (cpu?.throttled_usec ?? 0) * 1000,
        },
      },
      memory: {
        usage: readNumber(this.#directory, 'memory.current') ?? 0,
        stats: readTable(this.#directory, 'memory.stat') ?? {},
        ...(limit === undefined ? {} : { limit }),
      },
      blkio: this.#blkio(),
      pids: { current: readNumber(this.#directory, 'pids.current') ?? 0, ...(pidsLimit === undefined ? {} : { limit: pidsLimit }) },
    };
  }

  /** io.stat: `8:0 rbytes=… wbytes=… rios=… wios=… dbytes=… dios=…`. */
  #blkio(): CgroupSample['blkio'] {
    const bytes: BlkioEntry[] = [];
    const operations: BlkioEntry[] = [];
    for (const line of (readControl(this.#directory, 'io.stat') ?? '').split('\n')) {
      const [device = '', ...fields] = line.split(' ');
      const [major, minor] = device.split(':').map(Number);
      if (major === undefined || minor === undefined) continue;
      const values = new Map(fields.map((field) => field.split('=') as [string, string]));
      for (const [key, list, op] of [
        ['rbytes', bytes, 'read'],
        ['wbytes', bytes, 'write'],
        ['rios', operations, 'read'],
        ['wios', operations, 'write'],
      ] as const) {
        const value = values.get(key);
        if (value !== undefined) list.push({ major, minor, op, value: Number(value) });
      }
    }
    return { ...noBlkio, io_service_bytes_recursive: bytes, io_serviced_recursive: operations };
  }

  #updateMemory(memory: NonNullable<RuntimeResources['memory']>): void {
    const { limit = 0, swap = 0 } = memory;
    if (swap !== 0 || limit === -1) {
      // The API's figure is memory and swap together, the file's is swap alone.
      const base = limit > 0 ? limit : (readNumber(this.#directory, 'memory.max') ?? 0);
      this.#write('memory.swap.max', swap > 0 ? Math.max(swap - base, 0) : 'max');
    }
    if (limit !== 0) this.#write('memory.max', limit === -1 ? 'max' : limit);
    if (memory.reservation !== undefined && memory.reservation !== 0) {
      this.#write('memory.low', memory.reservation === -1 ? 'max' : memory.reservation);
    }
  }

  #updateCpu(cpu: NonNullable<RuntimeResources['cpu']>): void {
    if (cpu.shares !== undefined && cpu.shares !== 0) this.#write('cpu.weight', cpuWeight(cpu.shares));
    if (cpu.quota !== undefined || cpu.period !== undefined) {
      const [currentQuota = 'max', currentPeriod = `${defaultPeriodUs}`] = (readControl(this.#directory, 'cpu.max') ?? '').split(' ');
      const period = cpu.period || Number(currentPeriod) || defaultPeriodUs;
      const quota = cpu.quota === undefined || cpu.quota === 0 ? currentQuota : cpu.quota > 0 ? cpu.quota : 'max';
      this.#write('cpu.max', `${quota === '' ? 'max' : quota} ${period}`);
    }
    if (cpu.cpus !== undefined && cpu.cpus !== '') this.#write('cpuset.cpus', cpu.cpus);
    if (cpu.mems !== undefined && cpu.mems !== '') this.#write('cpuset.mems', cpu.mems);
  }

  /** The scheduler that is there has its own file, and blkio's scale. */
  #weigh(device: string, weight: number): void {
    if (readControl(this.#directory, 'io.bfq.weight') !== undefined) this.#write('io.bfq.weight', `${device}${weight}`);
    else this.#write('io.weight', `${device}${ioWeight(weight)}`);
  }

  #write(file: string, value: string | number): void {
    writeControl(this.#directory, file, value);
  }
}

/** v1's shares (2…262144) on v2's scale (1…10000), as the runtimes convert them. */
function cpuWeight(shares: number): number {
  return 1 + Math.floor(((shares - 2) * 9_999) / 262_142);
}

/** blkio's weight (10…1000) on io's scale (1…10000). */
function ioWeight(weight: number): number {
  return 1 + Math.floor(((weight - 10) * 9_999) / 990);
}
