/** NetworkSettings of ContainerInspect, made of a sandbox's record. Pure. */
import type { EndpointSettings, NetworkSettings } from '@flotilla/engine-api';
import { dnsNames } from './endpoint.ts';
import type { Joining } from './joining.ts';
import { predefinedNames } from './network.ts';
import { endpointDocument, networkSettings, type SandboxRecord } from './sandbox.ts';

/** Of a running container. @param sandboxKey - path of its namespace. */
export function runningSettings(sandbox: SandboxRecord, sandboxKey: string): NetworkSettings {
  const networks: Record<string, EndpointSettings> = {};
  for (const endpoint of sandbox.endpoints) {
    const names = predefinedNames.includes(endpoint.networkName) ? null : dnsNames(sandbox, endpoint.wish);
    networks[endpoint.networkName] = endpointDocument(endpoint.wish, endpoint, endpoint.networkId, names);
  }
  const { sandboxId, ports, exposedPorts } = sandbox;
  return networkSettings(networks, { sandboxId, sandboxKey, ports, exposedPorts });
}

/** Of a container that does not run. */
export function stoppedSettings(
  joinings: readonly Joining[],
  container?: { containerName: string; containerId: string; hostname: string },
): NetworkSettings {
  const networks: Record<string, EndpointSettings> = {};
  for (const { network, wish } of joinings) {
    const names = container === undefined || predefinedNames.includes(network.name) ? null : dnsNames(container, wish);
    networks[network.name] = endpointDocument(wish, undefined, network.id, names);
  }
  return networkSettings(networks);
}
