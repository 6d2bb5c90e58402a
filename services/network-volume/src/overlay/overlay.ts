/**
 * Overlay networks between hosts that share NATS. The bucket (shared.ts) is the truth: a network or an address is one's own only when a compare-and-set said
 * so, and a host that is cut off can take neither until it is back. What runs goes on meanwhile: forwarding entries are the kernel's.
 *
 * Addresses of a host that died stay its own: they come back when it does and finds them without containers. Its names are told no more after a while.
 */
import { Conflict, errorMessage, Forbidden, isConflict, NotFound, Unavailable } from '@flotilla/errors';
import type { NamedEndpoint } from '../dns/directory.ts';
import type { NetworkRecord } from '../network.ts';
import { notAgreed } from './network.ts';
import { type OverlayLinks, Peers } from './peers.ts';
import {
  type Claim,
  claim,
  claimKey,
  hostBeat,
  hostKey,
  networksKey,
  parseClaimKey,
  type SharedNetwork,
  type SharedStore,
  sharedNetworks,
} from './shared.ts';

const beatMs = 5_000;
const deadAfterMs = 16_000;
/** A claim younger than this may be of a start that is under way. */
const orphanAfterMs = 60_000;
const maxRaces = 20;

export interface OverlayOptions {
  readonly store: SharedStore;
  readonly engineId: string;
  /** This host's address that others reach it by. */
  readonly address: string;
  readonly links: OverlayLinks;
  /** Endpoints of this engine on overlay networks, with their claims as they should be. */
  readonly ownEndpoints: () => readonly { networkId: string; address: string; claim: Omit<Claim, 'engine' | 'host' | 'time'> }[];
  /** The overlay networks that this host has records of. */
  readonly ownNetworks: () => readonly SharedNetwork[];
  /** Records are missing: a claim without an endpoint may be a running container's. */
  readonly recordsAreLost: () => boolean;
  /** The network as this host knows it. */
  readonly network: (id: string) => NetworkRecord | undefined;
  /** All networks there are, after any change. */
  readonly onNetworks: (networks: readonly SharedNetwork[]) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

export class Overlay {
  private readonly options: OverlayOptions;
  private readonly peers: Peers;
  private readonly seenAt = new Map<string, number>();
  private connectedSince = Date.now();
  /** Claims are as they should be; else the next beat sees to it. */
  private isReconciled = false;
  private timer: NodeJS.Timeout | undefined;
  private adopting: Promise<void> = Promise.resolve();

  constructor(options: OverlayOptions) {
    this.options = options;
    this.peers = new Peers(options.engineId);
  }

  /** Learns what there is, and follows it. @throws Unavailable when it cannot be learnt yet; may be called again then. */
  async start(): Promise<void> {
    const { store, onError } = this.options;
    store.onLost(() => this.restoreNetworks());
    await store.watch((key, value) => this.changed(key, value));
    const beat = (): void => void this.beat().catch(onError);
    store.onReconnect(() => {
      this.connectedSince = Date.now();
      this.isReconciled = false;
      beat();
    });
    beat();
    this.timer = setInterval(beat, beatMs).unref();
  }

  private async beat(): Promise<void> {
    const { store, engineId, address } = this.options;
    if (!store.connected) return;
    await store.put(hostKey(engineId), JSON.stringify({ address }));
    if (this.isReconciled) return;
    this.isReconciled = true;
    try {
      if (!(await this.reconcileOwn())) this.isReconciled = false;
    } catch (error) {
      this.isReconciled = false;
      throw error;
    }
  }

  private changed(key: string, value: string | undefined): void {
    try {
      const place = parseClaimKey(key);
      if (place !== undefined) this.claimChanged(place.networkId, place.address, value);
      else if (key === networksKey) this.networksChanged(value);
      else if (key.startsWith('host.') && value !== undefined) {
        hostBeat.parse(JSON.parse(value));
        this.seenAt.set(key.slice('host.'.length), Date.now());
      }
    } catch (error) {
      this.options.onError(error);
    }
  }

  private claimChanged(networkId: string, address: string, value: string | undefined): void {
    const { gone, now } = this.peers.set(networkId, address, value === undefined ? undefined : claim.parse(JSON.parse(value)));
    const network = this.options.network(networkId);
    if (network === undefined) return;
    if (gone !== undefined) this.options.links.removePeer(network.bridge, gone, gone.isLastOfMac);
    if (now !== undefined) this.options.links.setPeer(network.bridge, now);
  }

  private networksChanged(value: string | undefined): void {
    const networks = value === undefined ? [] : sharedNetworks.parse(JSON.parse(value));
    this.adopting = this.adopting.then(() => this.options.onNetworks(networks)).catch(this.options.onError);
  }

  /** Brings a network's tunnel into the kernel, and whom it reaches. Idempotent. */
  realize(network: NetworkRecord, mtu: number): void {
    if (network.vni === undefined) return;
    this.options.links.ensureTunnel(network.bridge, network.vni, mtu);
    for (const peer of this.peers.others(network.id)) this.options.links.setPeer(network.bridge, peer);
  }

  /**
   * Agrees on a network with all hosts.
   *
   * @param choose - makes it, given those there are; called again when another host was quicker.
   * @throws what `choose` throws; Unavailable.
   */
  async create(choose: (networks: readonly SharedNetwork[]) => SharedNetwork): Promise<SharedNetwork> {
    return this.change((networks) => {
      const made = choose(networks);
      return { networks: [...networks, made], result: made };
    });
  }

  /** @throws Forbidden when a container of any host is on it, in dockerd's words. */
  async remove(id: string): Promise<void> {
    const { store } = this.options;
    await this.mark(id, true);
    const claims = await store.keys(`address.${id}.>`);
    if (claims.length > 0) {
      await this.mark(id, false);
      throw new Forbidden(
        `error while removing network: network ${this.options.network(id)?.name ?? id} has active endpoints on other hosts`,
      );
    }
    await this.change((networks) => ({ networks: networks.filter((network) => network.id !== id), result: undefined }));
  }

  private async mark(id: string, leaving: boolean): Promise<void> {
    await this.change((networks) => ({
      networks: networks.map((network) => (network.id === id ? { ...network, leaving } : network)),
      result: undefined,
    }));
  }

  private async change<T>(work: (networks: readonly SharedNetwork[]) => { networks: readonly SharedNetwork[]; result: T }): Promise<T> {
    const { store } = this.options;
    for (let race = 1; ; race += 1) {
      const entry = await store.get(networksKey);
      const before = entry === undefined ? [] : sharedNetworks.parse(JSON.parse(entry.value));
      const { networks, result } = work(before);
      if (networks === before) return result;
      try {
        if (entry === undefined) await store.create(networksKey, JSON.stringify(networks));
        else await store.update(networksKey, JSON.stringify(networks), entry.revision);
        return result;
      } catch (error) {
        if (!isConflict(error) || race === maxRaces) throw error;
      }
    }
  }

  isTaken(networkId: string, address: string): boolean {
    return this.peers.isTaken(networkId, address);
  }

  /** @throws Conflict when another has it, NotFound when the network is being removed on another host, Unavailable when nobody can say. */
  async claim(networkId: string, address: string, whose: Omit<Claim, 'engine' | 'host' | 'time'>): Promise<void> {
    const { store } = this.options;
    await store.create(claimKey(networkId, address), this.claimText(whose));
    // A removal looks for claims after it has marked the network: one of the two sees the other.
    const entry = await store.get(networksKey);
    const network = sharedNetworks.parse(JSON.parse(entry?.value ?? '[]')).find(({ id }) => id === networkId);
    if (network !== undefined && network.leaving !== true) return;
    await store.delete(claimKey(networkId, address));
    throw new NotFound(`network ${this.options.network(networkId)?.name ?? networkId} not found`);
  }

  private claimText(whose: Omit<Claim, 'engine' | 'host' | 'time'>): string {
    return JSON.stringify({ ...whose, engine: this.options.engineId, host: this.options.address, time: Date.now() });
  }

  /** Tells other hosts of new names. */
  async rename(networkId: string, address: string, whose: Omit<Claim, 'engine' | 'host' | 'time'>): Promise<void> {
    await this.options.store.put(claimKey(networkId, address), this.claimText(whose));
  }

  /** Gives an address back: at once where NATS can be reached, else when it is back. */
  release(networkId: string, address: string): void {
    void this.options.store.delete(claimKey(networkId, address)).catch((error: unknown) => {
      this.isReconciled = false;
      this.options.onError(new Unavailable(`the address ${address} is given back later: ${errorMessage(error)}`, { cause: error }));
    });
  }

  /** Claims of this engine against its endpoints, both ways. @returns whether none is left that is too young to judge. */
  private async reconcileOwn(): Promise<boolean> {
    const { store, engineId, address, ownEndpoints, onError } = this.options;
    let isWhole = true;
    if ((await store.get(networksKey)) === undefined) await this.restoreNetworks();
    const endpoints = new Map(ownEndpoints().map((endpoint) => [claimKey(endpoint.networkId, endpoint.address), endpoint]));
    for (const key of await store.keys('address.>')) {
      const entry = await store.get(key);
      if (entry === undefined) continue;
      const found = claim.parse(JSON.parse(entry.value));
      const endpoint = endpoints.get(key);
      endpoints.delete(key);
      if (found.engine !== engineId) {
        if (endpoint !== undefined) onError(new Conflict(`address ${endpoint.address} is another host's by now: ${found.host}`));
        continue;
      }
      if (endpoint === undefined) {
        if (Date.now() - found.time > orphanAfterMs && !this.options.recordsAreLost()) await store.delete(key);
        else isWhole = false;
      } else if (found.host !== address) await store.put(key, this.claimText(endpoint.claim));
    }
    for (const [key, endpoint] of endpoints) await store.create(key, this.claimText(endpoint.claim)).catch(onError);
    return isWhole;
  }

  /**
   * NATS has lost the bucket, and each host tells the new one what it knows. A network that was removed while a host was away comes back by that host: nothing
   * says that it is not one which the others have yet to tell. One that clashes with what was made since stays with this host alone.
   */
  private async restoreNetworks(): Promise<void> {
    const own = this.options.ownNetworks();
    const clashing = await this.change((networks) => {
      const { missing, clashing } = notAgreed(own, networks);
      return { networks: missing.length === 0 ? networks : [...networks, ...missing], result: clashing };
    });
    for (const { id, name } of clashing)
      this.options.onError(
        new Conflict(`network ${name} (${id}) is not shared any more: its name, VNI or subnet is another's since NATS has lost them`),
      );
  }

  lookup(networkId: string, name: string, networkName: string): NamedEndpoint[] {
    return this.peers.lookup(networkId, name, networkName, (engine) => this.isAlive(engine));
  }

  reverse(networkId: string, address: string, networkName: string): NamedEndpoint | undefined {
    return this.peers.reverse(networkId, address, networkName);
  }

  /** While this host is the one that is cut off, nothing is known of others: they count as they were. */
  private isAlive(engine: string): boolean {
    const now = Date.now();
    if (!this.options.store.connected || now - this.connectedSince < deadAfterMs) return true;
    return now - (this.seenAt.get(engine) ?? 0) < deadAfterMs;
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.options.store.close();
  }
}
