/** What the gateway knows of the machine it runs on, read once: kernel, distribution, processors, memory. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
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

/** File systems by the magic number of statfs(2), in dockerd's words. */
const fileSystems: Record<number, string> = {
  61267: 'extfs',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
  801189825: 'zfs',
  4076150800: 'f2fs',
};

/** What holds a directory: `Backing Filesystem` of `docker info`. */
export function backingFileSystem(directory: string): string {
  try {
    return fileSystems[statfsSync(directory).type] ?? '<unknown>';
  } catch {
    return '<unknown>';
  }
}

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
