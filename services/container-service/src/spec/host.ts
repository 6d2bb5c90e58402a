/** What this machine can do: found out once, at start, and passed along as a value. */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { delimiter, join } from 'node:path';
import { type CgroupSupport, type CgroupVersion, Hierarchy } from '../cgroups/index.ts';
import { capabilityNames } from './capabilities.ts';

export interface HostFacts {
  /** what a container can have at most, `CAP_…`, in the kernel's order */
  readonly boundingCapabilities: readonly string[];
  readonly cgroupVersion: CgroupVersion;
  readonly cgroups: CgroupSupport;
  /** the machine's architecture as the seccomp profile names it */
  readonly architecture: 'amd64' | 'arm64';
  readonly kernel: { readonly major: number; readonly minor: number };
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly seccomp: boolean;
  /** the kernel has AppArmor switched on, and there is a program to load profiles */
  readonly apparmor: boolean;
  /** the lowest oom_score_adj a process of ours may ask for */
  readonly lowestOomScoreAdj: number;
  /** a static program that reaps children and passes signals on: what `--init` runs */
  readonly initPath: string | undefined;
  readonly hostname: string;
}

const initPrograms = ['docker-init', 'tini-static', 'catatonit', 'tini'];
const capSysResource = 24;

export function detectHost(hierarchy: Hierarchy = Hierarchy.detect()): HostFacts {
  const status = readFileSync('/proc/self/status', 'utf8');
  const bounding = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const [major = 0, minor = 0] = release().split(/[.-]/).map(Number);
  return {
    boundingCapabilities: capabilityNames.filter((_, bit) => (bounding >> BigInt(bit)) & 1n),
    cgroupVersion: hierarchy.version,
    cgroups: hierarchy.support(),
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    kernel: { major, minor },
    cpus: availableParallelism(),
    memoryBytes: Number(/^MemTotal:\s*(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024,
    seccomp: /^Seccomp:/m.test(status),
    apparmor: hasApparmor(),
    lowestOomScoreAdj: (bounding >> BigInt(capSysResource)) & 1n ? -1000 : Number(readText('/proc/self/oom_score_adj') || 0),
    initPath: findInit(),
    hostname: readText('/proc/sys/kernel/hostname'),
  };
}

function hasApparmor(): boolean {
  if (readText('/sys/module/apparmor/parameters/enabled') !== 'Y') return false;
  return existsSync('/sys/kernel/security/apparmor') && existsSync('/sbin/apparmor_parser');
}

function findInit(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).concat('/usr/bin', '/usr/libexec/docker', '/usr/libexec/podman');
  return initPrograms.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}
