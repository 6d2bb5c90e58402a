/** The mounts of a container: the kernel's file systems, then its own, in the order in which they have to be made. */
import { existsSync, readFileSync, statfsSync, statSync } from 'node:fs';
import type { HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { RuntimeLinux, RuntimeMount } from '@flotilla/oci';
import { unescapeMountPath } from '@flotilla/syscalls';
import { cleanPath, type ResolvedMount } from './mountPlan.ts';
import { mergeTmpfsOptions } from './tmpfs.ts';

export interface MountInput {
  readonly hostConfig: HostConfig;
  readonly mounts: readonly ResolvedMount[];
  /** a tmpfs of the host to be /dev/shm; absent: one of the container's own */
  readonly shmPath?: string;
  readonly hostnamePath?: string;
  readonly hostsPath?: string;
  readonly resolvConfPath?: string;
  readonly initPath?: string;
  readonly writableCgroups: boolean;
}

export interface ContainerMounts {
  readonly mounts: RuntimeMount[];
  readonly rootfsPropagation: NonNullable<RuntimeLinux['rootfsPropagation']>;
}

/** Where `--init` appears in a container, as in Docker. */
export const initDestination = '/sbin/docker-init';

/** Mounts that stay writable under `--read-only`. */
const alwaysWritable = ['/proc', '/dev/pts', '/dev/shm', '/dev/mqueue', '/dev'];

export function containerMounts(input: MountInput): ContainerMounts {
  const { hostConfig } = input;
  const asked = input.mounts.map(settledPropagation);
  const own = [...tmpfsMounts(hostConfig), ...asked.map(userMount), ...networkFiles(input)];
  const taken = new Set(own.map((mount) => mount.destination));
  const base = kernelMounts(input)
    .filter((mount) => !taken.has(mount.destination))
    // A user's own /dev is not to be covered by what belongs on ours.
    .filter((mount) => !(taken.has('/dev') && mount.destination.startsWith('/dev/')));
  const mounts = [...base, ...own].sort((a, b) => depth(a.destination) - depth(b.destination));
  if (input.initPath !== undefined) {
    mounts.push({ destination: initDestination, type: 'bind', source: input.initPath, options: ['bind', 'ro'] });
  }
  if (hostConfig.ReadonlyRootfs) {
    const users = new Set(input.mounts.map((mount) => mount.destination).concat(Object.keys(hostConfig.Tmpfs ?? {}).map(cleanPath)));
    for (const mount of mounts) {
      if (alwaysWritable.includes(mount.destination) || users.has(mount.destination)) continue;
      if (!mount.options?.includes('ro')) mount.options = [...(mount.options ?? []), 'ro'];
    }
  }
  return { mounts, rootfsPropagation: rootPropagation(asked, mounts) };
}

function kernelMounts({ hostConfig, shmPath, writableCgroups }: MountInput): RuntimeMount[] {
  const privileged = hostConfig.Privileged === true;
  const readOnly = privileged ? [] : ['ro'];
  const ipcMode = hostConfig.IpcMode ?? '';
  const mounts: RuntimeMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', ...readOnly] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [...(writableCgroups ? [] : readOnly), 'nosuid', 'noexec', 'nodev'],
    },
  ];
  // The queues are those of the ipc namespace, the host's too, whether it has them mounted or not.
  mounts.push({ destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] });
  if (ipcMode === 'host' && existsSync('/dev/shm')) {
    mounts.push({ destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['rbind', 'nosuid', 'noexec', 'nodev'] });
  } else if (shmPath !== undefined) {
    mounts.push({ destination: '/dev/shm', type: 'bind', source: shmPath, options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev'] });
  } else if (ipcMode !== 'none') {
    const size = `size=${hostConfig.ShmSize ?? 0}`;
    mounts.push({ destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', size] });
  }
  return mounts;
}

function tmpfsMounts(hostConfig: HostConfig): RuntimeMount[] {
  return Object.entries(hostConfig.Tmpfs ?? {}).map(([path, options]) => ({
    destination: cleanPath(path),
    type: 'tmpfs',
    source: 'tmpfs',
    options: mergeTmpfsOptions(options.split(',').filter((option) => option !== '')),
  }));
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false;
}

/** Files of /proc that may be mounted over: lxcfs shows a container's own numbers in them. */
const replaceableProcFiles = new Set(
  'cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid'.split(' ').map((name) => `/proc/${name}`),
);
const procMagic = 0x9fa0;

/** runc refuses what would hide a part of /proc; crun does not. @throws InvalidParameter in runc's words. */
function refuseInProc({ type, source = '', destination }: ResolvedMount): void {
  if (destination !== '/proc' && !destination.startsWith('/proc/')) return;
  if (replaceableProcFiles.has(destination)) return;
  if (destination === '/proc' && type === 'bind' && statfsSync(source).type === procMagic) return;
  const reason = destination === '/proc' ? 'it is not of type proc' : 'it is inside /proc';
  throw new InvalidParameter(
    `failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting "${source}" to rootfs at "${destination}": "${destination}" cannot be mounted because ${reason}: unknown`,
  );
}

function userMount(mount: ResolvedMount): RuntimeMount {
  refuseInProc(mount);
  if (mount.type === 'tmpfs') {
    return { destination: mount.destination, type: 'tmpfs', source: 'tmpfs', options: [...(mount.options ?? [])] };
  }
  const options = [mount.nonRecursive ? 'bind' : 'rbind'];
  // crun opens what it makes read-only recursively as a directory; nothing is mounted below a file.
  const recursive = !mount.readOnlyNonRecursive && !mount.nonRecursive && !isFile(mount.source ?? '');
  if (!mount.rw) options.push(recursive ? 'rro' : 'ro');
  const propagation = mount.propagation === '' ? 'rprivate' : mount.propagation;
  // crun takes the r of a propagation for that of rbind.
  options.push(mount.nonRecursive ? propagation.replace(/^r/, '') : propagation);
  if (mount.type === 'bind') requirePropagation(mount.source ?? '', mount.propagation);
  return { destination: mount.destination, type: 'bind', source: mount.source ?? '', options };
}

function networkFiles({ mounts, hostnamePath, hostsPath, resolvConfPath }: MountInput): RuntimeMount[] {
  const files = [
    ['/etc/resolv.conf', resolvConfPath],
    ['/etc/hostname', hostnamePath],
    ['/etc/hosts', hostsPath],
  ] as const;
  const taken = new Set(mounts.map((mount) => mount.destination));
  return files.flatMap(([destination, source]) =>
    source === undefined || taken.has(destination) ? [] : [{ destination, type: 'bind', source, options: ['rbind', 'rprivate'] }],
  );
}

/** Parents before what is mounted below them; equals keep their order. */
function depth(path: string): number {
  return path === '/' ? 0 : path.split('/').length;
}

/** The root must itself take part in propagation for a mount below it to do so. */
function rootPropagation(asked: readonly ResolvedMount[], mounts: readonly RuntimeMount[]): ContainerMounts['rootfsPropagation'] {
  const ofTmpfs = mounts.filter((mount) => mount.type === 'tmpfs').flatMap((mount) => mount.options ?? []);
  const modes = [...asked.map((mount) => mount.propagation), ...ofTmpfs];
  if (modes.some((mode) => mode === 'shared' || mode === 'rshared')) return 'shared';
  if (modes.some((mode) => mode === 'slave' || mode === 'rslave')) return 'rslave';
  return 'rprivate';
}

function settledPropagation(mount: ResolvedMount): ResolvedMount {
  if (!mount.slaveIfShared || mountOf(mount.source ?? '').options.some((option) => /^(?:shared|master):/.test(option))) return mount;
  return { ...mount, propagation: 'rprivate' };
}

/** @throws InvalidParameter when the host's mount does not propagate in the way the container's is to. */
function requirePropagation(source: string, propagation: string): void {
  const shared = propagation === 'shared' || propagation === 'rshared';
  const slave = propagation === 'slave' || propagation === 'rslave';
  if (!shared && !slave) return;
  const { mountPoint, options } = mountOf(source);
  const isShared = options.some((option) => option.startsWith('shared:'));
  if (shared && !isShared) throw new InvalidParameter(`path ${source} is mounted on ${mountPoint} but it is not a shared mount`);
  if (slave && !isShared && !options.some((option) => option.startsWith('master:'))) {
    throw new InvalidParameter(`path ${source} is mounted on ${mountPoint} but it is not a shared or slave mount`);
  }
}

function mountOf(path: string): { mountPoint: string; options: string[] } {
  let best = { mountPoint: '/', options: [] as string[] };
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = (line.split(' - ')[0] ?? '').split(' ');
    if (fields[4] === undefined) continue;
    const mountPoint = unescapeMountPath(fields[4]);
    const below = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    // Of two mounts in one place the later covers the earlier.
    if (below && mountPoint.length >= best.mountPoint.length) best = { mountPoint, options: fields.slice(6) };
  }
  return best;
}
