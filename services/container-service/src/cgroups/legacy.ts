/** Control groups v1: one hierarchy a controller. */
import type { BlkioEntry } from '@flotilla/engine-api';
import type { RuntimeResources, RuntimeThrottle } from '@flotilla/oci';
import { readControl, readNumber, readTable, writeControl } from './files.ts';
import type { Controls } from './group.ts';
import type { ControllerName, Hierarchy } from './hierarchy.ts';
import { type CgroupSample, noBlkio } from './sample.ts';

/** cpuacct.stat counts in USER_HZ, which is 100 on every machine Linux runs on. */
const nanosecondsPerTick = 10_000_000;
/** The kernel's "no limit" is the largest page-aligned number. */
const unlimitedFrom = 2 ** 62;
const freezePollMs = 1;
const freezeTimeoutMs = 10_000;

export class LegacyControls implements Controls {
  readonly #hierarchy: Hierarchy;
  readonly #path: string;

  constructor(hierarchy: Hierarchy, path: string) {
    this.#hierarchy = hierarchy;
    this.#path = path;
  }

  update(resources: RuntimeResources): void {
    const { memory, cpu, pids, blockIO } = resources;
    if (memory !== undefined) this.#updateMemory(memory);
    if (cpu !== undefined) this.#updateCpu(cpu);
    if (pids !== undefined) this.#write('pids', 'pids.max', pids.limit > 0 ? pids.limit : 'max');
    if (blockIO === undefined) return;
    const blkio = this.#directory('blkio');
    if (blockIO.weight !== undefined && blockIO.weight > 0 && blkio !== undefined) {
      writeControl(blkio, readControl(blkio, 'blkio.weight') === undefined ? 'blkio.bfq.weight' : 'blkio.weight', blockIO.weight);
    }
    for (const device of blockIO.weightDevice ?? []) {
      this.#write('blkio', 'blkio.weight_device', `${device.major}:${device.minor} ${device.weight ?? 0}`);
    }
    this.#throttle('blkio.throttle.read_bps_device', blockIO.throttleReadBpsDevice);
    this.#throttle('blkio.throttle.write_bps_device', blockIO.throttleWriteBpsDevice);
    this.#throttle('blkio.throttle.read_iops_device', blockIO.throttleReadIOPSDevice);
    this.#throttle('blkio.throttle.write_iops_device', blockIO.throttleWriteIOPSDevice);
  }

  async freeze(): Promise<void> {
    this.#write('freezer', 'freezer.state', 'FROZEN');
    const deadline = Date.now() + freezeTimeoutMs;
    while (!this.frozen()) {
      if (Date.now() > deadline) {
        await this.thaw();
        throw new Error(`the processes of ${this.#path} could not be frozen`);
      }
      await new Promise((resolve) => setTimeout(resolve, freezePollMs));
      // A process forked meanwhile may have slipped through; writing again catches it.
      if (readControl(this.#directory('freezer'), 'freezer.state') === 'FREEZING') this.#write('freezer', 'freezer.state', 'FROZEN');
    }
  }

  async thaw(): Promise<void> {
    this.#write('freezer', 'freezer.state', 'THAWED');
  }

  frozen(): boolean {
    return readControl(this.#directory('freezer'), 'freezer.state') === 'FROZEN';
  }

  oomKills(): number {
    return readTable(this.#directory('memory'), 'memory.oom_control')?.oom_kill ?? 0;
  }

  outOfMemory(): boolean {
    return readTable(this.#directory('memory'), 'memory.oom_control')?.under_oom === 1;
  }

  sample(): CgroupSample {
    return { cpu: this.#cpu(), memory: this.#memory(), blkio: this.#blkio(), pids: this.#pids() };
  }

  #cpu(): CgroupSample['cpu'] {
    const accounting = this.#directory('cpuacct');
    const ticks = readTable(accounting, 'cpuacct.stat');
    const throttling = readTable(this.#directory('cpu'), 'cpu.stat');
    const perCpu = readControl(accounting, 'cpuacct.usage_percpu');
    return {
      cpu_usage: {
        total_usage: readNumber(accounting, 'cpuacct.usage') ?? 0,
        ...(perCpu === undefined ? {} : { percpu_usage: perCpu.trim().split(/\s+/).map(Number) }),
        usage_in_kernelmode: (ticks?.system ?? 0) * nanosecondsPerTick,
        usage_in_usermode: (ticks?.user ?? 0) * nanosecondsPerTick,
      },
      throttling_data: {
        periods: throttling?.nr_periods ?? 0,
        throttled_periods: throttling?.nr_throttled ?? 0,
        throttled_time: throttling?.throttled_time ?? 0,
      },
    };
  }

  #memory(): CgroupSample['memory'] {
    const memory = this.#directory('memory');
    const limit = readNumber(memory, 'memory.limit_in_bytes');
    return {
      usage: readNumber(memory, 'memory.usage_in_bytes') ?? 0,
      max_usage: readNumber(memory, 'memory.max_usage_in_bytes') ?? 0,
      stats: readTable(memory, 'memory.stat') ?? {},
      failcnt: readNumber(memory, 'memory.failcnt') ?? 0,
      ...(limit === undefined || limit >= unlimitedFrom ? {} : { limit }),
    };
  }

  #blkio(): CgroupSample['blkio'] {
    const blkio = this.#directory('blkio');
    // A weight scheduler counts what it schedules; the throttle counts everything.
    const bytes = readControl(blkio, 'blkio.throttle.io_service_bytes_recursive') ?? readControl(blkio, 'blkio.io_service_bytes_recursive');
    const operations = readControl(blkio, 'blkio.throttle.io_serviced_recursive') ?? readControl(blkio, 'blkio.io_serviced_recursive');
    return { ...noBlkio, io_service_bytes_recursive: blkioEntries(bytes ?? ''), io_serviced_recursive: blkioEntries(operations ?? '') };
  }

  #pids(): CgroupSample['pids'] {
    const pids = this.#directory('pids');
    const limit = readNumber(pids, 'pids.max');
    return { current: readNumber(pids, 'pids.current') ?? 0, ...(limit === undefined ? {} : { limit }) };
  }

  #updateMemory(memory: NonNullable<RuntimeResources['memory']>): void {
    const directory = this.#directory('memory');
    if (directory === undefined) return;
    const { limit = 0 } = memory;
    // Lifting the limit lifts that on swap with it: it may not be the smaller of the two.
    const swap = limit === -1 && (memory.swap ?? 0) === 0 ? -1 : (memory.swap ?? 0);
    const setLimit = (): void => {
      if (limit !== 0) writeControl(directory, 'memory.limit_in_bytes', limit);
    };
    const setSwap = (): void => {
      if (swap !== 0 && readControl(directory, 'memory.memsw.limit_in_bytes') !== undefined) {
        writeControl(directory, 'memory.memsw.limit_in_bytes', swap);
      }
    };
    // Of the two, memory must never be above memory+swap, not even between the writes.
    const current = readNumber(directory, 'memory.limit_in_bytes') ?? 0;
    if (swap === -1 || current < swap) {
      setSwap();
      setLimit();
    } else {
      setLimit();
      setSwap();
    }
    if (memory.reservation !== undefined && memory.reservation !== 0) {
      writeControl(directory, 'memory.soft_limit_in_bytes', memory.reservation);
    }
    if (memory.swappiness !== undefined) writeControl(directory, 'memory.swappiness', memory.swappiness);
    if (memory.disableOOMKiller !== undefined) writeControl(directory, 'memory.oom_control', memory.disableOOMKiller ? 1 : 0);
  }

  #updateCpu(cpu: NonNullable<RuntimeResources['cpu']>): void {
    if (cpu.shares !== undefined && cpu.shares !== 0) this.#write('cpu', 'cpu.shares', cpu.shares);
    if (cpu.quota !== undefined || cpu.period !== undefined) this.#updateQuota(cpu.quota, cpu.period);
    if (cpu.realtimePeriod !== undefined) this.#write('cpu', 'cpu.rt_period_us', cpu.realtimePeriod);
    if (cpu.realtimeRuntime !== undefined) this.#write('cpu', 'cpu.rt_runtime_us', cpu.realtimeRuntime);
    if (cpu.cpus !== undefined && cpu.cpus !== '') this.#write('cpuset', 'cpuset.cpus', cpu.cpus);
    if (cpu.mems !== undefined && cpu.mems !== '') this.#write('cpuset', 'cpuset.mems', cpu.mems);
  }

  /** A shorter period with the old quota may be refused; then the quota goes first. */
  #updateQuota(quota: number | undefined, period: number | undefined): void {
    const setQuota = (): void => {
      if (quota !== undefined && quota !== 0) this.#write('cpu', 'cpu.cfs_quota_us', quota);
    };
    if (period !== undefined && period !== 0) {
      try {
        this.#write('cpu', 'cpu.cfs_period_us', period);
      } catch (error) {
        if (quota === undefined || quota === 0) throw error;
        setQuota();
        this.#write('cpu', 'cpu.cfs_period_us', period);
      }
    }
    setQuota();
  }

  #throttle(file: string, devices: readonly RuntimeThrottle[] | undefined): void {
    for (const { major, minor, rate } of devices ?? []) this.#write('blkio', file, `${major}:${minor} ${rate}`);
  }

  #write(controller: ControllerName, file: string, value: string | number): void {
    const directory = this.#directory(controller);
    if (directory === undefined) throw new Error(`the cgroup controller ${controller} is not mounted`);
    writeControl(directory, file, value);
  }

  #directory(controller: ControllerName): string | undefined {
    return this.#hierarchy.directory(controller, this.#path);
  }
}

/** `8:0 Read 4096` lines; the grand total in the last line is not an entry. */
function blkioEntries(text: string): BlkioEntry[] {
  const entries: BlkioEntry[] = [];
  for (const line of text.split('\n')) {
    const match = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line);
    if (match?.[3] !== undefined) entries.push({ major: Number(match[1]), minor: Number(match[2]), op: match[3], value: Number(match[4]) });
  }
  return entries;
}
