/** What network-volume is told of a container. */
import type { SandboxSpec } from '@flotilla/contracts/flotilla/network/v1/networks';
import type { ContainerRecord } from './container.ts';
import { toJson } from './neighbours.ts';

type Described = Pick<ContainerRecord, 'id' | 'name' | 'config' | 'hostConfig' | 'endpoints'>;

/**
 * @param resolve - the container that a link names.
 * @throws whatever `resolve` throws for a container that is not there.
 */
export function sandboxSpec(container: Described, resolve: (reference: string) => { id: string; name: string }): SandboxSpec {
  const { config, hostConfig } = container;
  return {
    containerId: container.id,
    containerName: container.name,
    hostname: config.Hostname ?? '',
    domainname: config.Domainname ?? '',
    networkMode: config.NetworkDisabled ? 'none' : hostConfig.NetworkMode || 'default',
    endpointsJson: toJson(container.endpoints),
    portBindingsJson: toJson(hostConfig.PortBindings ?? {}),
    exposedPorts: Object.keys(config.ExposedPorts ?? {}),
    publishAllPorts: hostConfig.PublishAllPorts ?? false,
    dns: hostConfig.Dns ?? [],
    dnsSearch: hostConfig.DnsSearch ?? [],
    dnsOptions: hostConfig.DnsOptions ?? [],
    extraHosts: hostConfig.ExtraHosts ?? [],
    links: (hostConfig.Links ?? []).map((link) => resolveLink(link, resolve)),
    macAddress: config.MacAddress ?? '',
    sysctls: {},
  };
}

/** `container[:alias]` → `id:name:alias`. */
function resolveLink(link: string, resolve: (reference: string) => { id: string; name: string }): string {
  const [reference = '', alias] = link.split(':');
  const target = resolve(reference);
  const name = reference.replace(/^\//, '');
  return `${target.id}:${target.name}:${alias?.split('/').pop() || name}`;
}
