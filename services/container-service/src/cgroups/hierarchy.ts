/**
 * Where control groups are mounted on this host: v1 (also hybrid, whose v2 side holds no controller) or v2 alone.
 *
 * Containers' groups are named by an absolute path from the root of each hierarchy, whatever group this service itself is in.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type ControllerName = 'cpu' | 'cpuacct' | 'cpuset' | 'memory' | 'devices' | 'freezer' | 'blkio' | 'pids' | 'io' | 'hugetlb';

/** What the kernel offers; the names and meanings dockerd's warnings and `info` go by. */
export interface CgroupSupport {
  readonly memoryLimit: boolean;
  readonly swapLimit: boolean;
  readonly memoryReservation: boolean;
  readonly memorySwappiness: boolean;
  readonly oomKillDisable: boolean;
  readonly cpuShares: boolean;
  readonly cpuCfs: boolean;
  readonly cpuRealtime: boolean;
  readonly cpuset: boolean;
  /** the cpus and memory nodes there are, as `0-3,5` */
  readonly cpus: string;
  readonly mems: string;
  readonly blkioWeight: boolean;
  readonly blkioWeightDevice: boolean;
  readonly blkioReadBps: boolean;
  readonly blkioWriteBps: boolean;
  readonly blkioReadIops: boolean;
  readonly blkioWriteIops: boolean;
  readonly pidsLimit: boolean;
}

/** 1 for v1 and hybrid, 2 for v2 alone. */
export type CgroupVersion = 1 | 2;

export class Hierarchy {
  readonly version: CgroupVersion;
  /** v1: controller → mount point of its hierarchy */
  readonly #mounts: ReadonlyMap<string, string>;
  /** mount point of the v2 hierarchy */
  readonly unified: string | undefined;

  private constructor(version: CgroupVersion, mounts: ReadonlyMap<string, string>, unified: string | undefined) {
    this.version = version;
    this.#mounts = mounts;
    this.unified = unified;
  }

  /** @param mountinfo - the text of /proc/self/mountinfo. */
  static parse(mountinfo: string): Hierarchy {
    const mounts = new Map<string, string>();
    let unified: string | undefined;
    for (const line of mountinfo.split('\n')) {
      const [before = '', after = ''] = line.split(' - ');
      const mountPoint = before.split(' ')[4];
      const [type, , options = ''] = after.split(' ');
      if (mountPoint === undefined) continue;
      // The first mount of a hierarchy is the host's; later ones are binds into containers and the like.
      if (type === 'cgroup2') unified ??= mountPoint;
      if (type !== 'cgroup') continue;
      for (const controller of options.split(',')) if (!mounts.has(controller)) mounts.set(controller, mountPoint);
    }
    const hasControllers = ['memory', 'cpu', 'pids', 'freezer', 'devices'].some((controller) => mounts.has(controller));
    return new Hierarchy(hasControllers || unified === undefined ? 1 : 2, mounts, unified);
  }

  static detect(): Hierarchy {
    return Hierarchy.parse(readFileSync('/proc/self/mountinfo', 'utf8'));
  }

  /** The directory of a group for one controller; undefined where the controller is not mounted. */
  directory(controller: ControllerName, group: string): string | undefined {
    const root = this.version === 2 ? this.unified : this.#mounts.get(controller);
    return root === undefined ? undefined : join(root, group);
  }

  /** Every directory a group has, one for each hierarchy (also the v2 side of a hybrid and named ones). */
  directories(group: string): string[] {
    const roots = new Set(this.version === 2 ? [] : this.#mounts.values());
    if (this.unified !== undefined) roots.add(this.unified);
    return [...roots].map((root) => join(root, group));
  }

  support(): CgroupSupport {
    return this.version === 2 ? this.#unifiedSupport() : this.#legacySupport();
  }

  #legacySupport(): CgroupSupport {
    const has = (controller: ControllerName, file: string): boolean => {
      const root = this.#mounts.get(controller);
      return root !== undefined && existsSync(join(root, file));
    };
    return {
      memoryLimit: has('memory', 'memory.limit_in_bytes'),
      swapLimit: has('memory', 'memory.memsw.limit_in_bytes'),
      memoryReservation: has('memory', 'memory.soft_limit_in_bytes'),
      memorySwappiness: has('memory', 'memory.swappiness'),
      oomKillDisable: has('memory', 'memory.oom_control'),
      cpuShares: has('cpu', 'cpu.shares'),
      cpuCfs: has('cpu', 'cpu.cfs_quota_us'),
      cpuRealtime: has('cpu', 'cpu.rt_period_us'),
      cpuset: has('cpuset', 'cpuset.cpus'),
      cpus: this.#text('cpuset', 'cpuset.cpus'),
      mems: this.#text('cpuset', 'cpuset.mems'),
      blkioWeight: has('blkio', 'blkio.weight'),
      blkioWeightDevice: has('blkio', 'blkio.weight_device'),
      blkioReadBps: has('blkio', 'blkio.throttle.read_bps_device'),
      blkioWriteBps: has('blkio', 'blkio.throttle.write_bps_device'),
      blkioReadIops: has('blkio', 'blkio.throttle.read_iops_device'),
      blkioWriteIops: has('blkio', 'blkio.throttle.write_iops_device'),
      pidsLimit: this.#mounts.has('pids'),
    };
  }

  #unifiedSupport(): CgroupSupport {
    const controllers = new Set(this.#text('memory', 'cgroup.controllers').split(' '));
    const [memory, cpu, cpuset, io] = ['memory', 'cpu', 'cpuset', 'io'].map((name) => controllers.has(name)) as [
      boolean,
      boolean,
      boolean,
      boolean,
    ];
    return {
      memoryLimit: memory,
      swapLimit: memory && existsSync('/proc/swaps'),
      memoryReservation: memory,
      memorySwappiness: false,
      oomKillDisable: false,
      cpuShares: cpu,
      cpuCfs: cpu,
      cpuRealtime: false,
      cpuset,
      cpus: this.#text('cpuset', 'cpuset.cpus.effective'),
      mems: this.#text('cpuset', 'cpuset.mems.effective'),
      blkioWeight: io,
      blkioWeightDevice: io,
      blkioReadBps: io,
      blkioWriteBps: io,
      blkioReadIops: io,
      blkioWriteIops: io,
      pidsLimit: controllers.has('pids'),
    };
  }

  #text(controller: ControllerName, file: string): string {
    const root = this.directory(controller, '/');
    try {
      return root === undefined ? '' : readFileSync(join(root, file), 'utf8').trim();
    } catch {
      return '';
    }
  }
}
