/** Which networks a container joins, and with which wish for each: what its mode and its endpoints' configuration say together. */
import type { EndpointSettings } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { checkEndpoint } from './endpoint.ts';
import { type NetworkRecord, predefinedNames } from './network.ts';
import type { SandboxWish } from './sandbox.ts';

export interface Joining {
  readonly network: NetworkRecord;
  readonly wish: EndpointSettings;
}

interface KnownNetworks {
  find(term: string): NetworkRecord;
  findForMode(mode: string): NetworkRecord;
}

/** Networks to join, by the client's term: those named, else the mode's. */
export function wantedEndpoints(networks: KnownNetworks, wish: SandboxWish): Map<string, EndpointSettings> {
  const given = new Map(Object.entries(wish.endpoints));
  const mode = modeName(wish);
  const isGiven = [...given.keys()].some((term) => term === mode || isSameNetwork(networks, term, mode));
  if (!isGiven && (given.size === 0 || !predefinedNames.includes(mode))) given.set(mode, {});
  return given;
}

/** The same, but for one network. */
export function otherEndpoints(networks: KnownNetworks, wish: SandboxWish, network: NetworkRecord): Record<string, EndpointSettings> {
  return Object.fromEntries([...wantedEndpoints(networks, wish)].filter(([term]) => !isSameNetwork(networks, term, network.id)));
}

function isSameNetwork(networks: KnownNetworks, term: string, mode: string): boolean {
  try {
    return networks.find(term).id === networks.find(mode).id;
  } catch {
    return false;
  }
}

function modeName(wish: SandboxWish): string {
  return wish.networkMode === '' || wish.networkMode === 'default' ? 'bridge' : wish.networkMode;
}

/**
 * The networks themselves, each checked, by name.
 *
 * @throws NotFound, InvalidParameter in dockerd's words.
 */
export function joinings(networks: KnownNetworks, wish: SandboxWish): Joining[] {
  const found = new Map<string, Joining>();
  for (const [term, settings] of wantedEndpoints(networks, wish)) {
    const network = networks.findForMode(term);
    checkEndpoint(network, settings);
    const mac = settings.MacAddress || (network.name === modeName(wish) ? wish.macAddress : '');
    found.set(network.id, { network, wish: { ...settings, MacAddress: mac } });
  }
  const sorted = [...found.values()].sort((a, b) => (a.network.name < b.network.name ? -1 : 1));
  if (sorted.length > 1) for (const { network } of sorted) checkShared(network);
  return sorted;
}

/** @throws InvalidParameter for a network that a container can only be on alone. */
export function checkShared(network: NetworkRecord): void {
  if (network.driver === 'null') {
    throw new InvalidParameter('container cannot be connected to multiple networks with one of the networks in private (none) mode');
  }
  if (network.driver === 'host') {
    throw new InvalidParameter(
      'container sharing network namespace with another container or host cannot be connected to any other network',
    );
  }
}
