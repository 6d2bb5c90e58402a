/**
 * The part of the machine's cgroups that belongs to one test host.
 *
 * A directory `flotilla-test-<pid>-<n>` in every hierarchy (v1, hybrid or v2). The host's processes live in its leaf `machine`, so that
 * on v2 the directory itself stays free of processes and can hand controllers down. Every process that a host ever starts stays
 * below it, which is how a test knows what was left behind, and how a crashed run is swept.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from './waitFor.ts';

const cgroupRoot = '/sys/fs/cgroup';
const prefix = 'flotilla-test-';

/** Mount points of all cgroup hierarchies of the machine. */
export function cgroupHierarchies(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path, index, all) => path.startsWith(cgroupRoot) && all.indexOf(path) === index);
}

export class CgroupTree {
  readonly name: string;
  readonly directories: readonly string[];

  constructor(name: string) {
    this.name = prefix + name;
    this.directories = cgroupHierarchies().map((hierarchy) => join(hierarchy, this.name));
    for (const directory of this.directories) {
      mkdirSync(directory, { recursive: true });
      const leaf = join(directory, 'machine');
      if (existsSync(join(directory, 'cpuset.cpus')) && !existsSync(join(directory, 'cgroup.controllers'))) {
        inheritCpuset(directory);
        mkdirSync(leaf, { recursive: true });
        inheritCpuset(leaf);
      } else {
        mkdirSync(leaf, { recursive: true });
      }
    }
  }

  /** Ids of all processes below, zombies left out. */
  processes(): number[] {
    const pids = new Set<number>();
    for (const directory of this.directories) for (const pid of processesBelow(directory)) pids.add(pid);
    return [...pids].filter((pid) => !isZombie(pid));
  }

  /** Paths below the tree, without its own `machine`; what a container leaves behind shows here. */
  groups(): string[] {
    return this.directories.flatMap((directory) => directoriesBelow(directory).filter((path) => path !== join(directory, 'machine')));
  }

  /** Kills all that runs below, waits until it is gone, and removes the directories. */
  async remove(): Promise<void> {
    await waitFor(
      () => {
        this.thaw();
        for (const pid of this.processes()) kill(pid);
        return this.processes().length === 0;
      },
      { timeoutMs: 15_000, intervalMs: 10, what: `the processes of ${this.name} to be gone: ${this.describeProcesses()}` },
    );
    await waitFor(() => this.tryRemoveDirectories(), { timeoutMs: 5_000, what: `the cgroups of ${this.name} to be removable` });
  }

  describeProcesses(): string {
    return this.processes()
      .map((pid) => describeProcess(pid))
      .join('; ');
  }

  /** A paused container would never see its SIGKILL on v1. */
  private thaw(): void {
    for (const directory of this.directories) {
      for (const path of directoriesBelow(directory)) {
        for (const [file, value] of [
          ['freezer.state', 'THAWED'],
          ['cgroup.freeze', '0'],
        ] as const) {
          try {
            if (existsSync(join(path, file)) && readFileSync(join(path, file), 'utf8').trim() !== value)
              writeFileSync(join(path, file), value);
          } catch {
            // It went away while we looked.
          }
        }
      }
    }
  }

  private tryRemoveDirectories(): boolean {
    for (const directory of this.directories) {
      for (const path of [...directoriesBelow(directory).reverse(), directory]) if (existsSync(path)) rmdirSync(path);
    }
    return true;
  }
}

/** Removes the cgroups of test runs that were killed before they could: their processes first, then the directories. */
export async function sweepStaleCgroups(): Promise<void> {
  const names = new Set<string>();
  for (const hierarchy of cgroupHierarchies()) {
    for (const entry of readdirSync(hierarchy)) if (entry.startsWith(prefix)) names.add(entry.slice(prefix.length));
  }
  for (const name of names) {
    const owner = Number(name.split('-')[0]);
    if (!existsSync(`/proc/${owner}`)) await new CgroupTree(name).remove();
  }
}

/** A v1 cpuset takes no process before its cpus and mems are set. */
function inheritCpuset(directory: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const path = join(directory, file);
    if (readFileSync(path, 'utf8').trim() === '') writeFileSync(path, readFileSync(join(directory, '..', file), 'utf8').trim());
  }
}

function directoriesBelow(directory: string): string[] {
  const found: string[] = [];
  let entries: string[];
  try {
    entries = readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return found;
  }
  for (const entry of entries) {
    const path = join(directory, entry);
    found.push(path, ...directoriesBelow(path));
  }
  return found;
}

function processesBelow(directory: string): number[] {
  return [directory, ...directoriesBelow(directory)].flatMap((path) => {
    try {
      return readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
    } catch {
      return [];
    }
  });
}

function isZombie(pid: number): boolean {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}

/** `pid command line`, for messages. */
export function describeProcess(pid: number): string {
  try {
    return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()}`;
  } catch {
    return `${pid} (gone)`;
  }
}
