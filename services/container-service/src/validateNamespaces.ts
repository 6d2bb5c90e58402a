/** Namespace modes, and the options that make no sense together with a shared network. */
import type { ContainerConfig, HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

/** What a client asked for that a shared network or host name excludes. @throws InvalidParameter */
export function checkNetworkConflicts(config: ContainerConfig, hostConfig: HostConfig): void {
  const mode = hostConfig.NetworkMode ?? '';
  const refuse = (reason: string): never => {
    throw new InvalidParameter(`conflicting options: ${reason}`);
  };
  const links = (hostConfig.Links ?? []).length > 0;
  if (mode === 'container' || mode.startsWith('container:')) {
    const [, container] = mode.split(':', 2);
    if (!container) throw new InvalidParameter('invalid network mode: invalid container format container:<name|id>');
    if (config.Hostname) refuse('hostname and the network mode');
    if (links) refuse("container type network can't be used with links. This would result in undefined behavior");
    if (hostConfig.Dns?.length) refuse('dns and the network mode');
    if (hostConfig.ExtraHosts?.length) refuse('custom host-to-IP mapping and the network mode');
    if (config.MacAddress) refuse('mac-address and the network mode');
    if (Object.keys(hostConfig.PortBindings ?? {}).length > 0 || hostConfig.PublishAllPorts) {
      refuse('port publishing and the container type network mode');
    }
    if (Object.keys(config.ExposedPorts ?? {}).length > 0) refuse('port exposing and the container type network mode');
  }
  if (hostConfig.UTSMode === 'host' && config.Hostname) refuse('hostname and the UTS mode');
  if (mode === 'host') {
    if (config.MacAddress) refuse('mac-address and the network mode');
    if (links) refuse("host type networking can't be used with links. This would result in undefined behavior");
  }
}

/** @throws InvalidParameter for a mode there is not. */
export function checkNamespaces(hostConfig: HostConfig): void {
  const { IpcMode: ipc = '', PidMode: pid = '', UTSMode: uts = '', UsernsMode: users = '', CgroupnsMode: cgroups = '' } = hostConfig;
  if (!['', 'none', 'private', 'host', 'shareable'].includes(ipc) && !namesContainer(ipc)) {
    throw new InvalidParameter(`invalid IPC mode: ${ipc}`);
  }
  if (!['', 'host'].includes(pid) && !namesContainer(pid)) throw new InvalidParameter(`invalid PID mode: ${pid}`);
  if (!['', 'host'].includes(uts)) throw new InvalidParameter(`invalid UTS mode: ${uts}`);
  if (!['', 'host'].includes(users)) throw new InvalidParameter(`invalid USER mode: ${users}`);
  if (!['', 'host', 'private'].includes(cgroups)) throw new InvalidParameter(`invalid cgroup namespace mode: ${cgroups}`);
}

function namesContainer(mode: string): boolean {
  return /^container:[^:]+$/.test(mode);
}
