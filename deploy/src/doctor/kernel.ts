/** What of the kernel containers need: file systems, namespaces, cgroups, seccomp, capabilities, network. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import type { Roots } from '../stack/paths.ts';
import { findProgram } from '../stack/programs.ts';
import { type Finding, missing, ok, warning } from './finding.ts';

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

export function checkKernel(): Finding[] {
  const release = read('/proc/sys/kernel/osrelease').trim();
  const [major = 0, minor = 0] = release.split('.').map(Number);
  const modern = major > 5 || (major === 5 && minor >= 4);
  return [
    modern ? ok('kernel', release) : missing('kernel', `${release} is older than 5.4`, 'use a newer kernel'),
    checkRoot(),
    checkOverlay(),
    checkNamespaces(),
    checkCgroups(),
    checkSeccomp(),
    checkCapabilities(),
    ...checkNetwork(),
  ];
}

function checkRoot(): Finding {
  return process.getuid?.() === 0 ? ok('root', 'yes') : missing('root', 'not root', 'run flotilla as root (sudo)');
}

function checkOverlay(): Finding {
  if (/\boverlay\b/.test(read('/proc/filesystems'))) return ok('overlay file system', 'built in or loaded');
  const modprobe = findProgram('modprobe');
  if (modprobe !== undefined && spawnSync(modprobe, ['overlay']).status === 0) return ok('overlay file system', 'loaded now');
  return missing('overlay file system', 'the kernel has none', 'modprobe overlay, or a kernel with CONFIG_OVERLAY_FS');
}

function checkNamespaces(): Finding {
  const wanted = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'uts'];
  const absent = wanted.filter((name) => !existsSync(`/proc/self/ns/${name}`));
  return absent.length === 0
    ? ok('namespaces', wanted.join(' '))
    : missing('namespaces', `missing: ${absent.join(' ')}`, 'a kernel with CONFIG_NAMESPACES and its kinds');
}

/** Controllers that limits and statistics are made of. */
const wantedControllers = ['cpu', 'cpuset', 'memory', 'pids', 'blkio', 'devices', 'freezer'];

function checkCgroups(): Finding {
  const unified = read('/sys/fs/cgroup/cgroup.controllers');
  if (unified !== '') {
    const have = new Set(unified.trim().split(' '));
    const absent = ['cpu', 'cpuset', 'memory', 'pids', 'io'].filter((name) => !have.has(name));
    return absent.length === 0
      ? ok('cgroups', 'version 2')
      : warning(
          'cgroups',
          `version 2, without ${absent.join(' ')}: these limits do nothing`,
          'enable the controllers in the parent cgroup',
        );
  }
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => / - cgroup /.test(line));
  if (mounts.length === 0)
    return missing('cgroups', 'no cgroup file system is mounted', 'mount cgroups (systemd does; else cgroupfs-mount)');
  const options = mounts.map((line) => line.split(' ').at(-1) ?? '').join(',');
  const absent = wantedControllers.filter((name) => !options.split(',').includes(name));
  const form = existsSync('/sys/fs/cgroup/unified') ? 'version 1 with a version 2 side (hybrid)' : 'version 1';
  return absent.length === 0
    ? ok('cgroups', form)
    : warning('cgroups', `${form}, without ${absent.join(' ')}: these limits do nothing`, 'boot with the controllers enabled');
}

function checkSeccomp(): Finding {
  return /^Seccomp:/m.test(read('/proc/self/status'))
    ? ok('seccomp')
    : warning('seccomp', 'the kernel has none: containers run without a system call filter', 'a kernel with CONFIG_SECCOMP_FILTER');
}

const capabilityBits = { SYS_ADMIN: 21, NET_ADMIN: 12, SYS_CHROOT: 18, SETPCAP: 8, MKNOD: 27, SYS_RESOURCE: 24, SYS_PTRACE: 19 } as const;

function checkCapabilities(): Finding {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(read('/proc/self/status'))?.[1] ?? '0'}`);
  const absent = Object.entries(capabilityBits)
    .filter(([, bit]) => (effective & (1n << BigInt(bit))) === 0n)
    .map(([name]) => name);
  const vital = absent.filter((name) => name !== 'SYS_RESOURCE' && name !== 'SYS_PTRACE');
  if (vital.length > 0)
    return missing('capabilities', `without ${vital.join(' ')}`, 'run on the host itself, or in a privileged container');
  if (absent.length > 0)
    return warning(
      'capabilities',
      `without ${absent.join(' ')}: --ulimit cannot raise hard limits above ours`,
      'nothing to do where the host is a container or a small virtual machine',
    );
  return ok('capabilities', 'all that is needed');
}

function checkNetwork(): Finding[] {
  const findings: Finding[] = [];
  const nft = findProgram('nft');
  const tables = nft === undefined ? undefined : spawnSync(nft, ['list', 'tables'], { encoding: 'utf8' });
  findings.push(
    tables?.status === 0
      ? ok('nf_tables')
      : missing('nf_tables', tables?.stderr.trim() ?? 'nft is not installed', 'modprobe nf_tables, or a kernel with CONFIG_NF_TABLES'),
  );
  const forward =
    nft === undefined ? '' : (spawnSync(nft, ['list', 'chain', 'ip', 'filter', 'FORWARD'], { encoding: 'utf8' }).stdout ?? '');
  if (/policy drop/.test(forward)) {
    findings.push(ok('forwarding', "the host's FORWARD chain drops by policy: one tagged jump of Flotilla's lets its own bridges through"));
  }
  const docker0 = existsSync('/sys/class/net/docker0');
  if (docker0 && existsSync('/var/run/docker.pid')) {
    findings.push(ok('another engine', 'dockerd has docker0: the default bridge will be flotilla0'));
  }
  return findings;
}

/** Room where the stack keeps its data. */
export function checkDisk(roots: Roots): Finding {
  const path = [roots.dataRoot, '/var/lib', '/'].find((candidate) => existsSync(candidate)) ?? '/';
  const stats = statfsSync(path);
  const free = (stats.bavail * stats.bsize) / 2 ** 30;
  const text = `${free.toFixed(1)} GiB free for ${roots.dataRoot}`;
  const overlayOnOverlay = /^overlay$/.test(fileSystemOf(path));
  if (overlayOnOverlay)
    return missing('disk', `${path} is on an overlay, which cannot hold another`, 'put --data-root on ext4, xfs or btrfs');
  return free < 2 ? warning('disk', text, 'make room: images and containers need it') : ok('disk', text);
}

function fileSystemOf(path: string): string {
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .map((line) => ({ target: line.split(' ')[4] ?? '', type: / - (\S+) /.exec(line)?.[1] ?? '' }))
    .filter(({ target }) => target !== '' && (path === target || path.startsWith(target === '/' ? '/' : `${target}/`)));
  return mounts.sort((a, b) => b.target.length - a.target.length)[0]?.type ?? '';
}
