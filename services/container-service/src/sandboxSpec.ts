/** What network-volume is told of a container. */
import type { SandboxSpec } from '@flotilla/contracts/flotilla/network/v1/networks';
import type { ContainerRecord } from './container.ts';
import { linkTargets } from './links.ts';
import { toJson } from './neighbours.ts';
import { ipv6Switches } from './spec/sysctls.ts';

type Described = Pick<ContainerRecord, 'id' | 'name' | 'config' | 'hostConfig' | 'endpoints'>;

/** @param get - a container that a link names, by its id. */
export function sandboxSpec(container: Described, get: (id: string) => ContainerRecord | undefined): SandboxSpec {
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
    links: linkTargets(container, get).map((link) => `${link.container.id}:${link.container.name}:${link.alias}`),
    macAddress: config.MacAddress ?? '',
    sysctls: ipv6Switches(hostConfig),
  };
}
