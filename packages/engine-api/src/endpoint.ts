/** Endpoints: how a container is joined to networks, and its published ports. */
import { int, list, map, type Shape, string, struct } from './decode.ts';

export interface EndpointIPAMConfig {
  IPv4Address?: string;
  IPv6Address?: string;
  LinkLocalIPs?: string[];
}

/** What a client asks of an endpoint; the engine fills in the rest. */
export interface EndpointSettings {
  IPAMConfig?: EndpointIPAMConfig | null;
  Links?: string[] | null;
  Aliases?: string[] | null;
  MacAddress?: string;
  DriverOpts?: Record<string, string> | null;
  /** the network with the highest has the default gateway */
  GwPriority?: number;
  NetworkID?: string;
  EndpointID?: string;
  Gateway?: string;
  IPAddress?: string;
  IPPrefixLen?: number;
  IPv6Gateway?: string;
  GlobalIPv6Address?: string;
  GlobalIPv6PrefixLen?: number;
  DNSNames?: string[] | null;
}

export interface NetworkingConfig {
  /** by network name or id */
  EndpointsConfig?: Record<string, EndpointSettings>;
}

export interface PortBinding {
  HostIp?: string;
  /** a port or a range, decimal; empty: any */
  HostPort?: string;
}
/** `80/tcp` → bindings; null in answers: exposed but not published. */
export type PortMap = Record<string, PortBinding[] | null>;

/** NetworkSettings of ContainerInspect. The fields after Networks repeat the default bridge's endpoint for older clients. */
export interface NetworkSettings {
  Bridge: string;
  SandboxID: string;
  SandboxKey: string;
  Ports: PortMap | null;
  HairpinMode: boolean;
  LinkLocalIPv6Address: string;
  LinkLocalIPv6PrefixLen: number;
  SecondaryIPAddresses: null;
  SecondaryIPv6Addresses: null;
  EndpointID: string;
  Gateway: string;
  GlobalIPv6Address: string;
  GlobalIPv6PrefixLen: number;
  IPAddress: string;
  IPPrefixLen: number;
  IPv6Gateway: string;
  MacAddress: string;
  Networks: Record<string, EndpointSettings>;
}

export const endpointSettings: Shape<EndpointSettings> = struct<EndpointSettings>('network.EndpointSettings', {
  IPAMConfig: struct<EndpointIPAMConfig>('network.EndpointIPAMConfig', {
    IPv4Address: string,
    IPv6Address: string,
    LinkLocalIPs: list(string),
  }),
  Links: list(string),
  Aliases: list(string),
  MacAddress: string,
  DriverOpts: map(string),
  GwPriority: int,
  NetworkID: string,
  EndpointID: string,
  Gateway: string,
  IPAddress: string,
  IPPrefixLen: int,
  IPv6Gateway: string,
  GlobalIPv6Address: string,
  GlobalIPv6PrefixLen: int,
  DNSNames: list(string),
});

export const networkingConfig: Shape<NetworkingConfig> = struct<NetworkingConfig>('network.NetworkingConfig', {
  EndpointsConfig: map(endpointSettings, () => ({})),
});

export const portMap: Shape<Record<string, PortBinding[]>> = map(
  list(struct<PortBinding>('nat.PortBinding', { HostIp: string, HostPort: string })),
  () => [],
);
