/** The process of a container or an exec: arguments, environment, user, capabilities. */
import type { ContainerConfig, ExecConfig, HostConfig, Ulimit } from '@flotilla/engine-api';
import type { RuntimeCapabilities, RuntimeProcess } from '@flotilla/oci';
import { apparmorProfile } from './apparmor.ts';
import { containerCapabilities } from './capabilities.ts';
import type { HostFacts } from './host.ts';
import { initDestination } from './mounts.ts';
import type { SecurityOptions } from './securityOptions.ts';
import { lookUpUser, type ProcessUser } from './users.ts';

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface ContainerProcessInput {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly rootfs: string;
  readonly security: SecurityOptions;
  readonly host: HostFacts;
  readonly ulimits: readonly Ulimit[];
  readonly init: boolean;
  readonly linkEnvironment: readonly string[];
}

/** @throws InvalidParameter for a user or group that is not there. */
export function containerProcess(input: ContainerProcessInput): RuntimeProcess {
  const { config, hostConfig, security, host } = input;
  const user = lookUpUser(input.rootfs, config.User ?? '', hostConfig.GroupAdd ?? []);
  const args = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  const [height = 0, width = 0] = hostConfig.ConsoleSize ?? [];
  const apparmor = apparmorProfile(hostConfig, host);
  return {
    terminal: config.Tty === true,
    ...(config.Tty && height > 0 && width > 0 ? { consoleSize: { height, width } } : {}),
    user: runtimeUser(user),
    args: input.init ? [initDestination, '--', ...args] : args,
    env: environment(config, [...input.linkEnvironment, ...(config.Env ?? [])], config.Tty === true, user.home),
    cwd: config.WorkingDir || '/',
    capabilities: capabilitySets(containerCapabilitiesOf(hostConfig, host), user),
    ...(input.ulimits.length === 0 ? {} : { rlimits: input.ulimits.map(rlimit) }),
    noNewPrivileges: security.noNewPrivileges,
    ...(apparmor === undefined ? {} : { apparmorProfile: apparmor }),
    oomScoreAdj: Math.max(hostConfig.OomScoreAdj ?? 0, host.lowestOomScoreAdj),
  };
}

export interface ExecProcessInput {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly exec: ExecConfig;
  /** where the container's root can be seen: `/proc/<pid>/root` or the mounted directory */
  readonly rootfs: string;
  /** `process` of the spec the container runs by */
  readonly container: RuntimeProcess;
  readonly host: HostFacts;
  readonly linkEnvironment?: readonly string[];
}

/** The process of an exec. @throws InvalidParameter for a user or group that is not there. */
export function buildExecProcess(input: ExecProcessInput): RuntimeProcess {
  const { config, hostConfig, exec, container, host } = input;
  const user = lookUpUser(input.rootfs, exec.User || config.User || '', exec.User ? [] : (hostConfig.GroupAdd ?? []));
  const tty = exec.Tty === true;
  const [height = 0, width = 0] = exec.ConsoleSize ?? [];
  const bounding = exec.Privileged ? [...host.boundingCapabilities] : (container.capabilities?.bounding ?? []);
  return {
    terminal: tty,
    ...(tty && height > 0 && width > 0 ? { consoleSize: { height, width } } : {}),
    user: runtimeUser(user),
    args: [...(exec.Cmd ?? [])],
    env: environment(config, merged([...(input.linkEnvironment ?? []), ...(config.Env ?? [])], exec.Env ?? []), tty, user.home),
    cwd: exec.WorkingDir || config.WorkingDir || '/',
    capabilities: capabilitySets(bounding, user),
    ...(container.rlimits === undefined ? {} : { rlimits: container.rlimits }),
    noNewPrivileges: container.noNewPrivileges === true,
    // A privileged exec stays under its container's profile, as in dockerd.
    ...(container.apparmorProfile === undefined ? {} : { apparmorProfile: container.apparmorProfile }),
    ...(container.oomScoreAdj === undefined ? {} : { oomScoreAdj: container.oomScoreAdj }),
  };
}

/** The container's bounding set. */
export function containerCapabilitiesOf(hostConfig: HostConfig, host: HostFacts): string[] {
  const { Privileged: privileged = false, CapAdd: add = [], CapDrop: drop = [] } = hostConfig;
  return containerCapabilities({ privileged, add, drop }, host.boundingCapabilities);
}

/** Others than root get theirs from files they execute, as execve does it. */
function capabilitySets(bounding: string[], user: ProcessUser): RuntimeCapabilities {
  return user.uid === 0 ? { bounding, effective: bounding, permitted: bounding } : { bounding };
}

function runtimeUser(user: ProcessUser): RuntimeProcess['user'] {
  return { uid: user.uid, gid: user.gid, additionalGids: [...user.groups] };
}

function rlimit({ Name = '', Hard = 0, Soft = 0 }: Ulimit): { type: string; hard: number; soft: number } {
  // -1 is "unlimited", which the spec writes as the largest number.
  const value = (limit: number): number => (limit < 0 ? 2 ** 64 : limit);
  return { type: `RLIMIT_${Name.toUpperCase()}`, hard: value(Hard), soft: value(Soft) };
}

/** What Docker sets, then what was asked for; `NAME` alone removes a variable. */
function environment(config: ContainerConfig, asked: readonly string[], tty: boolean, home: string): string[] {
  const base = [defaultPath, `HOSTNAME=${config.Hostname ?? ''}`, ...(tty ? ['TERM=xterm'] : [])];
  const variables = merged(base, asked);
  // An empty HOME is none, as in runc.
  const others = variables.filter((variable) => variable !== 'HOME=');
  return others.some((variable) => variable.startsWith('HOME=')) ? others : [...others, `HOME=${home}`];
}

function merged(base: readonly string[], over: readonly string[]): string[] {
  const variables = new Map<string, string>();
  for (const variable of [...base, ...over]) {
    const equals = variable.indexOf('=');
    if (equals < 0) variables.delete(variable);
    else variables.set(variable.slice(0, equals), variable);
  }
  return [...variables.values()];
}
