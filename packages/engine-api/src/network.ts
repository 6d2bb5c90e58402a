/** Networks: what a client sends to make and join one, and what list and inspect answer. */
import { boolean, list, map, type Shape, string, struct } from './decode.ts';
import { type EndpointSettings, endpointSettings } from './endpoint.ts';

export interface IPAMConfig {
  Subnet?: string;
  IPRange?: string;
  Gateway?: string;
  AuxiliaryAddresses?: Record<string, string>;
}
export interface IPAM {
  Driver?: string;
  Options?: Record<string, string> | null;
  Config?: IPAMConfig[] | null;
}

/** The body of NetworkCreate. */
export interface NetworkCreateRequest {
  Name?: string;
  /** removed in API 1.44; read and ignored */
  CheckDuplicate?: boolean;
  Driver?: string;
  Scope?: string;
  Internal?: boolean;
  Attachable?: boolean;
  Ingress?: boolean;
  ConfigOnly?: boolean;
  ConfigFrom?: { Network?: string };
  IPAM?: IPAM;
  EnableIPv4?: boolean;
  EnableIPv6?: boolean;
  Options?: Record<string, string>;
  Labels?: Record<string, string>;
}
export interface NetworkCreateResponse {
  Id: string;
  Warning: string;
}
export interface NetworkConnectRequest {
  Container?: string;
  EndpointConfig?: EndpointSettings;
}
export interface NetworkDisconnectRequest {
  Container?: string;
  Force?: boolean;
}

/** An endpoint as NetworkInspect shows it; addresses with their prefix length. */
export interface NetworkContainer {
  Name: string;
  EndpointID: string;
  MacAddress: string;
  IPv4Address: string;
  IPv6Address: string;
}
export interface NetworkInspect {
  Name: string;
  Id: string;
  Created: string;
  Scope: string;
  Driver: string;
  EnableIPv4: boolean;
  EnableIPv6: boolean;
  IPAM: { Driver: string; Options: Record<string, string> | null; Config: IPAMConfig[] | null };
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  ConfigFrom: { Network: string };
  ConfigOnly: boolean;
  /** by container id; only inspect fills it in */
  Containers: Record<string, NetworkContainer>;
  Options: Record<string, string> | null;
  Labels: Record<string, string> | null;
}
export interface NetworksPruneReport {
  NetworksDeleted: string[] | null;
}

const ipam = struct<IPAM>('network.IPAM', {
  Driver: string,
  Options: map(string),
  Config: list(
    struct<IPAMConfig>('network.IPAMConfig', { Subnet: string, IPRange: string, Gateway: string, AuxiliaryAddresses: map(string) }),
  ),
});

export const networkCreateRequest: Shape<NetworkCreateRequest> = struct<NetworkCreateRequest>('network.CreateRequest', {
  Name: string,
  CheckDuplicate: boolean,
  Driver: string,
  Scope: string,
  Internal: boolean,
  Attachable: boolean,
  Ingress: boolean,
  ConfigOnly: boolean,
  ConfigFrom: struct<{ Network?: string }>('ConfigReference', { Network: string }),
  IPAM: ipam,
  EnableIPv4: boolean,
  EnableIPv6: boolean,
  Options: map(string),
  Labels: map(string),
});
export const networkConnectRequest: Shape<NetworkConnectRequest> = struct<NetworkConnectRequest>('network.ConnectOptions', {
  Container: string,
  EndpointConfig: endpointSettings,
});
export const networkDisconnectRequest: Shape<NetworkDisconnectRequest> = struct<NetworkDisconnectRequest>('network.DisconnectOptions', {
  Container: string,
  Force: boolean,
});
