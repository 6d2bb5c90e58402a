/** Which kernel parameters a container may set: those that belong to its own namespaces. */
import type { HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

const ipcParameters = ['msgmax', 'msgmnb', 'msgmni', 'sem', 'shmall', 'shmmax', 'shmmni', 'shm_rmid_forced'].map(
  (name) => `kernel.${name}`,
);

/** @throws InvalidParameter for one that is the host's. */
export function checkSysctls(hostConfig: HostConfig): void {
  for (const given of Object.keys(hostConfig.Sysctls ?? {})) {
    const name = given.replaceAll('/', '.');
    const quoted = JSON.stringify(given);
    if (ipcParameters.includes(name) || name.startsWith('fs.mqueue.')) {
      if (hostConfig.IpcMode === 'host') throw new InvalidParameter(`sysctl ${quoted} is not allowed in the hosts ipc namespace`);
    } else if (name.startsWith('net.')) {
      if (hostConfig.NetworkMode === 'host') throw new InvalidParameter(`sysctl ${quoted} not allowed in host network namespace`);
    } else if (name === 'kernel.domainname') {
      if (hostConfig.UTSMode === 'host') throw new InvalidParameter(`sysctl ${quoted} is not allowed in the hosts uts namespace`);
    } else if (name === 'kernel.hostname') {
      throw new InvalidParameter(`sysctl ${quoted} is not allowed as it conflicts with the OCI "hostname" field`);
    } else {
      throw new InvalidParameter(`sysctl ${quoted} is not in a separate kernel namespace`);
    }
  }
}

/** The parameters to set, with Docker's defaults: unprivileged processes may bind any port and ping. */
export function containerSysctls(hostConfig: HostConfig, domainname: string): Record<string, string> {
  const mode = hostConfig.NetworkMode ?? '';
  const ownNetwork = mode !== 'host' && !mode.startsWith('container:');
  return {
    ...(ownNetwork ? { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' } : {}),
    ...(domainname !== '' && hostConfig.UTSMode !== 'host' ? { 'kernel.domainname': domainname } : {}),
    ...hostConfig.Sysctls,
  };
}

/** Those by which it is known, before the runtime sets any, whether the container has IPv6. */
export function ipv6Switches(hostConfig: HostConfig): Record<string, string> {
  const named = Object.entries(hostConfig.Sysctls ?? {}).map(([name, value]) => [name.replaceAll('/', '.'), value] as const);
  return Object.fromEntries(named.filter(([name]) => /^net\.ipv6\.conf\.(all|lo)\.disable_ipv6$/.test(name)));
}
