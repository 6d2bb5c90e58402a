/**
 * The engine's listening sockets. They are opened here, before any gateway, and handed down: replicas share them, a dead gateway refuses nobody (the kernel
 * queues), and the gateway needs no right to bind. After a killed supervisor they are taken from the gateway that lives.
 */
import { lookup } from 'node:dns/promises';
import { chownSync, existsSync, fstatSync, lstatSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorMessage, InvalidParameter } from '@flotilla/errors/classes';
import { isServed } from '@flotilla/service-kit/isServed';
import { bindSocket, listenUnix, takeDescriptor } from '@flotilla/syscalls';
import { dockerSocket, formatHost, type Host } from '../options/hosts.ts';
import { defaultExecRoot, type StackSettings } from '../options/settings.ts';
import { isAlive } from '../supervisor/process.ts';
import type { StackState } from '../supervisor/state.ts';
import { findGroup } from './accounts.ts';
import type { StackPaths } from './paths.ts';
import type { Listener, ListenerName } from './plan.ts';
import { compactName, type ProcessName } from './services.ts';

/** The first descriptor that is passed, by systemd to us and by us to the gateway. */
export const firstPassedFd = 3;

const backlog = 1024;

/**
 * Opens every listening socket, or takes it over from a living gateway of the same stack.
 *
 * @param held - those that this process has, where it was the stack's supervisor already; what systemd passes is told by its environment only before.
 * @param warn - told what is done without.
 * @throws InvalidParameter when an address cannot be had.
 */
export async function openListeners(
  settings: StackSettings,
  paths: StackPaths,
  before: StackState | undefined,
  held: readonly Listener[] | undefined,
  warn: (line: string) => void,
): Promise<Listener[]> {
  const gid = socketGroup(settings, warn);
  const listeners: Listener[] = [];
  for (const { host, optional } of await wantedHosts(settings, paths, before)) {
    try {
      listeners.push(...(await openHost(host, settings, gid, before, held)));
    } catch (error) {
      if (!optional) throw error;
      warn(`${formatHost(host)} is left alone: ${errorMessage(error)}`);
    }
  }
  return listeners;
}

/** Without -H: the stack's own socket, and for the stack at the default roots also the socket that every client tries first, unless another engine has it. */
async function wantedHosts(
  settings: StackSettings,
  paths: StackPaths,
  before: StackState | undefined,
): Promise<{ host: Host; optional: boolean }[]> {
  if (settings.hosts.length > 0) return settings.hosts.map((host) => ({ host, optional: false }));
  const hosts: { host: Host; optional: boolean }[] = [{ host: { kind: 'unix', path: paths.dockerSocket }, optional: false }];
  if (settings.execRoot === defaultExecRoot && existsSync(dirname(dockerSocket))) {
    const ours = before?.listeners.some((listener) => listener.address === `unix://${dockerSocket}`) === true;
    if (ours || !(await isServed(dockerSocket))) hosts.push({ host: { kind: 'unix', path: dockerSocket }, optional: true });
  }
  return hosts;
}

async function openHost(
  host: Host,
  settings: StackSettings,
  gid: number,
  before: StackState | undefined,
  held: readonly Listener[] | undefined,
): Promise<Listener[]> {
  switch (host.kind) {
    case 'unix': {
      const address = formatHost(host);
      return [listener('unix', address, heldAt(address, held) ?? takeOver(address, before) ?? (await openUnix(host.path, gid)))];
    }
    case 'tcp': {
      const address = formatHost(host);
      return [
        listener(
          settings.tls === undefined ? 'tcp' : 'tls',
          address,
          heldAt(address, held) ?? takeOver(address, before) ?? (await openTcp(host)),
        ),
      ];
    }
    case 'fd':
      return held === undefined ? passedBySystemd(host.name, settings) : heldFromSystemd(host.name, settings, held);
  }
}

function listener(name: ListenerName, address: string, fd: number): Listener {
  return { name, address, fd, inode: fstatSync(fd).ino };
}

/** One whose file somebody has removed is made again. */
function heldAt(address: string, held: readonly Listener[] = []): number | undefined {
  if (address.startsWith('unix://') && !existsSync(address.slice('unix://'.length))) return undefined;
  return held.find((known) => known.address === address)?.fd;
}

function heldFromSystemd(name: string, settings: StackSettings, held: readonly Listener[]): Listener[] {
  const found = held.filter(({ address }) => address.startsWith('fd://') && (name === '' || name === '*' || address === `fd://${name}`));
  if (found.length === 0) throw new InvalidParameter('sockets of systemd can only be had from the start on: restart the service');
  return found.map((known) => (known.name === 'unix' ? known : { ...known, name: settings.tls === undefined ? 'tcp' : 'tls' }));
}

/** In which processes a gateway is. */
const holders: readonly ProcessName[] = ['gateway', compactName];

/** The same socket from the gateway that a killed supervisor left; undefined when there is none, or the kernel does not let us. */
function takeOver(address: string, before: StackState | undefined): number | undefined {
  const index = before?.listeners.findIndex((known) => known.address === address) ?? -1;
  const known = before?.listeners[index];
  if (before === undefined || known === undefined) return undefined;
  if (address.startsWith('unix://') && !existsSync(address.slice('unix://'.length))) return undefined;
  for (const gateway of before.processes.filter((process) => holders.includes(process.name) && isAlive(process))) {
    const fd = firstPassedFd + index;
    try {
      if (readlinkSync(`/proc/${gateway.pid}/fd/${fd}`) === `socket:[${known.inode}]`) return takeDescriptor(gateway.pid, fd);
    } catch {
      // Another replica may have it; else a new socket replaces it, and the gateway with it.
    }
  }
  return undefined;
}

async function openUnix(path: string, gid: number): Promise<number> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined) {
    if (!found.isSocket()) throw new InvalidParameter(`can't create unix socket ${path}: it exists and is not a socket`);
    if (await isServed(path)) throw new InvalidParameter(`can't create unix socket ${path}: another engine listens on it`);
    rmSync(path);
  }
  // The right mode from the first moment.
  const mask = process.umask(0o117);
  try {
    const fd = listenUnix(path, backlog);
    chownSync(path, 0, gid);
    return fd;
  } catch (error) {
    throw new InvalidParameter(`can't create unix socket ${path}: ${errorMessage(error)}`);
  } finally {
    process.umask(mask);
  }
}

async function openTcp(host: Extract<Host, { kind: 'tcp' }>): Promise<number> {
  try {
    const { address } = await lookup(host.host);
    return bindSocket({ transport: 'tcp', address, port: host.port, reuseAddress: true, backlog }).fd;
  } catch (error) {
    throw new InvalidParameter(`cannot listen on ${formatHost(host)}: ${errorMessage(error)}`);
  }
}

/** Sockets that systemd opened for us: all of them, or those with this name. */
function passedBySystemd(name: string, settings: StackSettings): Listener[] {
  const count = process.env.LISTEN_PID === String(process.pid) ? Number(process.env.LISTEN_FDS ?? 0) : 0;
  const names = (process.env.LISTEN_FDNAMES ?? '').split(':');
  const unixInodes = new Set(
    readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/)[6]),
  );
  const found = Array.from({ length: count }, (_unused, index) => ({ fd: firstPassedFd + index, name: names[index] ?? '' }))
    .filter((socket) => name === '' || name === '*' || socket.name === name)
    .map(({ fd, name: given }) => {
      const unix = unixInodes.has(String(fstatSync(fd).ino));
      return listener(unix ? 'unix' : settings.tls === undefined ? 'tcp' : 'tls', `fd://${given === '' ? fd : given}`, fd);
    });
  if (found.length === 0)
    throw new InvalidParameter('no sockets found via socket activation: make sure the service was started by systemd');
  return found;
}

function socketGroup(settings: StackSettings, warn: (line: string) => void): number {
  const gid = findGroup(settings.group);
  if (gid !== undefined) return gid;
  if (settings.groupGiven)
    throw new InvalidParameter(`could not change group of unix sockets to ${settings.group}: group ${settings.group} not found`);
  warn(`there is no group ${settings.group}: only root can use the unix sockets`);
  return 0;
}
