/** Who is where on the overlay networks, as the bucket says: forwarding entries follow it, and names of other hosts' containers come from it. */
import type { NamedEndpoint } from '../dns/directory.ts';
import type { Claim } from './shared.ts';

export interface Peer {
  readonly address: string;
  readonly mac: string;
  /** The host's address on the underlay. */
  readonly host: string;
}

/** The kernel's side: the tunnel of a network and whom it reaches. */
export interface OverlayLinks {
  ensureTunnel(bridge: string, vni: number, mtu: number): void;
  setPeer(bridge: string, peer: Peer): void;
  /** @param alsoHost - nobody else has its MAC there: frames for it go nowhere any more. */
  removePeer(bridge: string, peer: Peer, alsoHost: boolean): void;
}

export class Peers {
  private readonly engineId: string;
  private readonly byNetwork = new Map<string, Map<string, Claim>>();

  constructor(engineId: string) {
    this.engineId = engineId;
  }

  /** @returns what changes for the kernel: whom to forget, whom to learn. */
  set(networkId: string, address: string, claim: Claim | undefined): { gone?: Peer & { readonly isLastOfMac: boolean }; now?: Peer } {
    const claims = this.byNetwork.get(networkId) ?? new Map<string, Claim>();
    const before = claims.get(address);
    if (claim === undefined) claims.delete(address);
    else claims.set(address, claim);
    if (claims.size === 0) this.byNetwork.delete(networkId);
    else this.byNetwork.set(networkId, claims);
    const [gone, now] = [this.peerOf(address, before), this.peerOf(address, claim)];
    // A watch that begins anew tells all again: what runs is not interrupted for it.
    const isAnother = gone !== undefined && (gone.mac !== now?.mac || gone.host !== now.host);
    if (!isAnother) return now === undefined ? {} : { now };
    const isLastOfMac = !this.others(networkId).some(({ mac, host }) => mac === gone.mac && host === gone.host);
    return { gone: { ...gone, isLastOfMac }, ...(now === undefined ? {} : { now }) };
  }

  private peerOf(address: string, claim: Claim | undefined): Peer | undefined {
    return claim === undefined || claim.engine === this.engineId ? undefined : { address, mac: claim.mac, host: claim.host };
  }

  isTaken(networkId: string, address: string): boolean {
    return this.byNetwork.get(networkId)?.has(address) ?? false;
  }

  /** Those of other hosts on a network. */
  others(networkId: string): Peer[] {
    return [...(this.byNetwork.get(networkId) ?? [])].flatMap(([address, claim]) => this.peerOf(address, claim) ?? []);
  }

  /** Other hosts' containers by a name. @param isAlive - whether that engine's host is. */
  lookup(networkId: string, name: string, networkName: string, isAlive: (engine: string) => boolean): NamedEndpoint[] {
    return [...(this.byNetwork.get(networkId) ?? [])]
      .filter(([, claim]) => claim.engine !== this.engineId && isAlive(claim.engine))
      .filter(([, claim]) => claim.names.some((one) => one.toLowerCase() === name))
      .map(([address, { containerName }]) => named(containerName, networkName, address));
  }

  reverse(networkId: string, address: string, networkName: string): NamedEndpoint | undefined {
    const claim = this.byNetwork.get(networkId)?.get(address);
    if (claim === undefined || claim.engine === this.engineId) return undefined;
    return named(claim.containerName, networkName, address);
  }
}

function named(containerName: string, networkName: string, address: string): NamedEndpoint {
  return { containerName, networkName, ...(address.includes(':') ? { ipv6: address } : { ipv4: address }) };
}
