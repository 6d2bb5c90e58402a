/** What this service keeps, and the store as its domain sees it (@flotilla/records fits it; tests bring one in memory). */
import type { Collection, Commit, DomainEvent } from '@flotilla/records';
import { nowNano } from './clock.ts';
import type { NetworkRecord } from './network.ts';
import { addressesOf, type EndpointRecord, type SandboxRecord } from './sandbox.ts';
import type { VolumeRecord } from './volume.ts';

/** Who has an address: its existence is the reservation, made with `create` so that two replicas cannot both. Id: `<network id>/<address>`. */
export interface AddressRecord {
  readonly containerId: string;
}

/** Reserves a network's name. Id: the name. */
export interface NetworkNameRecord {
  readonly networkId: string;
}

export interface Records {
  readonly networks: Collection<NetworkRecord>;
  readonly networkNames: Collection<NetworkNameRecord>;
  readonly sandboxes: Collection<SandboxRecord>;
  readonly addresses: Collection<AddressRecord>;
  readonly volumes: Collection<VolumeRecord>;
  commit(commit: Commit): Promise<unknown>;
  fresh(): Promise<void>;
  /** What has no record may be somebody's all the same. @see RecordStore.areLost */
  readonly areLost?: boolean;
  withLease<T>(name: string, work: () => Promise<T>): Promise<T>;
}

interface Store {
  collection<T>(kind: string): Collection<T>;
  commit(commit: Commit): Promise<unknown>;
  fresh(): Promise<void>;
  readonly areLost?: boolean;
  withLease<T>(name: string, work: () => Promise<T>): Promise<T>;
}

export function recordsOf(store: Store): Records {
  return {
    networks: store.collection('network'),
    networkNames: store.collection('network-name'),
    sandboxes: store.collection('sandbox'),
    addresses: store.collection('address'),
    volumes: store.collection('volume'),
    commit: (commit) => store.commit(commit),
    fresh: () => store.fresh(),
    get areLost() {
      return store.areLost === true;
    },
    withLease: (name, work) => store.withLease(name, work),
  };
}

export function addressId(networkId: string, address: string): string {
  return `${networkId}/${address}`;
}

export function addressIds(endpoints: readonly EndpointRecord[]): string[] {
  return endpoints.flatMap((endpoint) => addressesOf(endpoint).map((address) => addressId(endpoint.networkId, address)));
}

/** A new sandbox, which is a Conflict when another replica has made the container's, and the reservation of what its endpoints have. */
export function newSandboxPuts(records: Records, sandbox: SandboxRecord): NonNullable<Commit['puts']> {
  const { containerId, endpoints } = sandbox;
  return [records.sandboxes.put(containerId, sandbox, { create: true }), ...addressPuts(records, containerId, endpoints)];
}

/** A sandbox that is there, and the reservation of what its new endpoint has. */
export function connectedPuts(records: Records, sandbox: SandboxRecord, newEndpoint: EndpointRecord): NonNullable<Commit['puts']> {
  const { containerId } = sandbox;
  return [records.sandboxes.put(containerId, sandbox), ...addressPuts(records, containerId, [newEndpoint])];
}

function addressPuts(records: Records, containerId: string, endpoints: readonly EndpointRecord[]): NonNullable<Commit['puts']> {
  return addressIds(endpoints).map((id) => records.addresses.put(id, { containerId }, { create: true }));
}

export function event(type: 'network' | 'volume', action: string, actorId: string, attributes: Record<string, string>): DomainEvent {
  return { type, action, actorId, attributes, timeNano: nowNano() };
}
