/** What the gateway knows of the machine it runs on, read once: kernel, distribution, processors, memory. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { arch, cpus, hostname, release, totalmem, version } from 'node:os';

const goArchitectures: Record<string, string> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ia32: '386',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
};
const machineNames: Record<string, string> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  arm: 'armv7l',
  ia32: 'i686',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
};

export interface Host {
  readonly kernelVersion: string;
  readonly kernelBuild: string;
  /** as Go names it: amd64 */
  readonly goArchitecture: string;
  /** as the kernel names it: x86_64 */
  readonly architecture: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly processors: number;
  /** bytes */
  readonly memory: number;
  readonly name: string;
  readonly cgroupV2: boolean;
}

export function readHost(): Host {
  const distribution = osRelease();
  return {
    kernelVersion: release(),
    kernelBuild: version(),
    goArchitecture: goArchitectures[arch()] ?? arch(),
    architecture: machineNames[arch()] ?? arch(),
    operatingSystem: distribution.PRETTY_NAME ?? 'Linux',
    osVersion: distribution.VERSION_ID ?? '',
    processors: cpus().length,
    memory: totalmem(),
    name: hostname(),
    cgroupV2: existsSync('/sys/fs/cgroup/cgroup.controllers'),
  };
}

function osRelease(): Record<string, string> {
  for (const path of ['/etc/os-release', '/usr/lib/os-release']) {
    try {
      const fields: Record<string, string> = {};
      for (const line of readFileSync(path, 'utf8').split('\n')) {
        const [, key = '', value = ''] = /^([A-Z_]+)=(.*)$/.exec(line) ?? [];
        if (key !== '') fields[key] = value.replace(/^(["'])(.*)\1$/, '$2');
      }
      return fields;
    } catch {}
  }
  return {};
}

/** The version a program says it has, or undefined where it is not installed. */
export function programVersion(program: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(program, ['--version'], { timeout: 5_000 }, (error, output) => {
      resolve(error === null ? /\bv?(\d+\.\d+[^\s,]*)/.exec(output)?.[1] : undefined);
    });
  });
}
