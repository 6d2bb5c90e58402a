/** A container's network stack: its record while it exists, what a container asks of it, and how the Engine API shows it. */
import type { SandboxSpec } from '@flotilla/contracts/flotilla/network/v1/networks';
import {
  DecodeError,
  decodeDocument,
  type EndpointSettings,
  endpointSettings,
  map,
  type NetworkSettings,
  type PortBinding,
  portMap,
} from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { PluginRoute } from './networkPlugin.ts';
import { type PublishedPort, portMapOf } from './ports.ts';

/** What joins a sandbox to one network. */
export interface EndpointRecord {
  readonly id: string;
  readonly networkId: string;
  readonly networkName: string;
  /** The client's wishes, as they were given. */
  readonly wish: EndpointSettings;
  readonly interfaceName: string;
  readonly hostLink: string;
  readonly mac: string;
  readonly ipv4?: string;
  readonly ipv4PrefixLength?: number;
  readonly ipv4Gateway?: string;
  readonly ipv6?: string;
  readonly ipv6PrefixLength?: number;
  readonly ipv6Gateway?: string;
  /** What its network's driver, a plugin, said of it: the interface's name on the host, and routes of its own. */
  readonly plugin?: { readonly source: string; readonly routes: readonly PluginRoute[] };
}

/** Of both families. */
export function addressesOf({ ipv4, ipv6 }: Pick<EndpointRecord, 'ipv4' | 'ipv6'>): string[] {
  return [ipv4, ipv6].filter((address) => address !== undefined);
}

export interface SandboxRecord {
  readonly containerId: string;
  readonly containerName: string;
  readonly hostname: string;
  readonly domainname: string;
  readonly kind: 'own' | 'host';
  readonly sandboxId: string;
  /** Name of the namespace under `<exec-root>/netns`; empty for the host's. */
  readonly slot: string;
  readonly endpoints: readonly EndpointRecord[];
  readonly ports: readonly PublishedPort[];
  readonly exposedPorts: readonly string[];
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  readonly extraHosts: readonly string[];
  /** `id:name:alias` */
  readonly links: readonly string[];
  /** Port of the embedded name server inside; absent where there is none. */
  readonly dnsPort?: number;
  /** Its sysctls take IPv6 from its loopback. */
  readonly withoutIPv6?: true;
}

/** A SandboxSpec with its documents decoded and its ids checked. */
export interface SandboxWish extends Omit<SandboxSpec, 'endpointsJson' | 'portBindingsJson'> {
  readonly endpoints: Readonly<Record<string, EndpointSettings>>;
  readonly portBindings: Readonly<Record<string, readonly PortBinding[]>>;
}

const containerIdPattern = /^[0-9a-f]{64}$/;
const containerNamePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** @throws InvalidParameter */
export function decodeSpec(spec: SandboxSpec | undefined): SandboxWish {
  if (spec === undefined) throw new InvalidParameter('a sandbox needs a spec');
  checkContainerId(spec.containerId);
  if (!containerNamePattern.test(spec.containerName)) throw new InvalidParameter(`Invalid container name (${spec.containerName})`);
  for (const name of Object.keys(spec.sysctls)) {
    if (!name.startsWith('net.')) throw new InvalidParameter(`sysctl '${name}' is not of the network namespace`);
  }
  const { endpointsJson, portBindingsJson, ...rest } = spec;
  return {
    ...rest,
    endpoints: decodeEndpoints(endpointsJson),
    portBindings: decode(() => decodeDocument(portMap, textOf(portBindingsJson))) ?? {},
  };
}

/** Ids become folder names: nothing else is let through. */
export function checkContainerId(id: string): void {
  if (!containerIdPattern.test(id)) throw new InvalidParameter(`invalid container id: ${id.slice(0, 80)}`);
}

function decodeEndpoints(json: Uint8Array): Record<string, EndpointSettings> {
  const shape = map(endpointSettings, () => ({}));
  return decode(() => decodeDocument(shape, textOf(json))) ?? {};
}

export function decodeEndpoint(json: Uint8Array): EndpointSettings {
  return decode(() => decodeDocument(endpointSettings, textOf(json))) ?? {};
}

function textOf(json: Uint8Array): string {
  return json.length === 0 ? 'null' : Buffer.from(json).toString('utf8');
}

function decode<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof DecodeError) throw new InvalidParameter(`invalid JSON: ${error.message}`);
    throw error;
  }
}

/** An endpoint as inspect shows it. @param dnsNames - null on the predefined networks. */
export function endpointDocument(
  wish: EndpointSettings,
  endpoint: EndpointRecord | undefined,
  networkId: string,
  dnsNames: string[] | null,
): EndpointSettings {
  return {
    IPAMConfig: wish.IPAMConfig ?? null,
    Links: wish.Links ?? null,
    Aliases: wish.Aliases ?? null,
    MacAddress: endpoint?.mac ?? wish.MacAddress ?? '',
    DriverOpts: wish.DriverOpts ?? null,
    GwPriority: wish.GwPriority ?? 0,
    NetworkID: networkId,
    EndpointID: endpoint?.id ?? '',
    Gateway: endpoint?.ipv4Gateway ?? '',
    IPAddress: endpoint?.ipv4 ?? '',
    IPPrefixLen: endpoint?.ipv4PrefixLength ?? 0,
    IPv6Gateway: endpoint?.ipv6Gateway ?? '',
    GlobalIPv6Address: endpoint?.ipv6 ?? '',
    GlobalIPv6PrefixLen: endpoint?.ipv6PrefixLength ?? 0,
    DNSNames: dnsNames,
  };
}

/** NetworkSettings of ContainerInspect. Without a record: those of a container that does not run. */
export function networkSettings(
  networks: Record<string, EndpointSettings>,
  running?: { sandboxId: string; sandboxKey: string; ports: readonly PublishedPort[]; exposedPorts: readonly string[] },
): NetworkSettings {
  const bridge = networks.bridge;
  return {
    Bridge: '',
    SandboxID: running?.sandboxId ?? '',
    SandboxKey: running?.sandboxKey ?? '',
    Ports: running === undefined ? {} : portMapOf(running.ports, running.exposedPorts),
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.EndpointID ?? '',
    Gateway: bridge?.Gateway ?? '',
    GlobalIPv6Address: bridge?.GlobalIPv6Address ?? '',
    GlobalIPv6PrefixLen: bridge?.GlobalIPv6PrefixLen ?? 0,
    IPAddress: bridge?.IPAddress ?? '',
    IPPrefixLen: bridge?.IPPrefixLen ?? 0,
    IPv6Gateway: bridge?.IPv6Gateway ?? '',
    MacAddress: bridge?.MacAddress ?? '',
    Networks: networks,
  };
}
