/** Networks and volumes, as Engine API v1.50 describes its answers, and this engine gives them: which fields are always there, and which may be null. */
import { any, boolean, fields, integer, list, map, oneOf, orNull, type Shape, string, time } from './shape.ts';

export const ipamConfig: Shape = fields({ Subnet: string, Gateway: string }, { IPRange: string, AuxiliaryAddresses: map(string) });

export const ipam: Shape = fields({ Driver: string, Config: orNull(list(ipamConfig)), Options: orNull(map(string)) });

export const configReference: Shape = fields({ Network: string });

export const networkContainer: Shape = fields({
  Name: string,
  EndpointID: string,
  MacAddress: string,
  IPv4Address: string,
  IPv6Address: string,
});

export const network: Shape = fields(
  {
    Name: string,
    Id: string,
    Created: time,
    Scope: string,
    Driver: string,
    EnableIPv4: boolean,
    EnableIPv6: boolean,
    IPAM: ipam,
    Internal: boolean,
    Attachable: boolean,
    Ingress: boolean,
    ConfigFrom: configReference,
    ConfigOnly: boolean,
    Containers: map(networkContainer),
    Options: map(string),
    Labels: map(string),
  },
  { Peers: orNull(list(any)) },
);

export const networkCreateResponse: Shape = fields({ Id: string, Warning: string });

export const volume: Shape = fields(
  {
    Name: string,
    Driver: string,
    Mountpoint: string,
    CreatedAt: time,
    Labels: orNull(map(string)),
    Scope: oneOf('local', 'global'),
    Options: orNull(map(string)),
  },
  { Status: map(map(any)), ClusterVolume: any, UsageData: orNull(fields({ Size: integer, RefCount: integer })) },
);

export const volumeListResponse: Shape = fields({ Volumes: list(volume), Warnings: orNull(list(string)) });

export const volumePrune: Shape = fields({ VolumesDeleted: list(string), SpaceReclaimed: integer });

export const networkPrune: Shape = fields({ NetworksDeleted: list(string) });
