/**
 * Our table in the kernel: kept equal to the records, and put back when somebody flushes it. What is asked of it before `start` is only
 * remembered, and written by `start` in one transaction.
 */
import { isDeepStrictEqual } from 'node:util';
import { type NetlinkMessage, NetlinkSocket, netlinkProtocols, parseAttributes, readText } from '@flotilla/syscalls';
import {
  allElements,
  baseRules,
  type FirewallNetwork,
  networkElements,
  type PortForward,
  portElementCount,
  portElements,
} from '../firewall.ts';
import { Nftables } from './nftables.ts';

/** Multicast group of nftables' changes, and its messages (10 << 8 |) that tables, chains, rules, sets and elements are gone. */
const changesGroup = 7;
const deletions: ReadonlySet<number> = new Set([0xa02, 0xa05, 0xa08, 0xa0b, 0xa0e]);
/** After `struct nfgenmsg` come attributes, the first of which is the table's name in all of these. */
const messageHeaderBytes = 4;
const tableAttribute = 1;
const inetFamily = 1;
/** That chains or rules are new, or gone. */
const chainChanges: ReadonlySet<number> = new Set([0xa03, 0xa05, 0xa06, 0xa08]);
const watchEveryMs = 300;

export interface PacketFilterOptions {
  /** The name of our table, in the family inet. */
  readonly table: string;
  readonly onError: (error: unknown) => void;
  /** What the records say is published: other instances' ports too. */
  readonly recordedPorts: () => readonly PortForward[];
  /** Our table had been changed by somebody and is whole again. */
  readonly onRestore: () => void;
  /** A change did not fit what the kernel has: the whole table is written instead. */
  readonly onMisfit: (error: unknown) => void;
  /** `--iptables=false`: the operator writes rules of their own, and none of ours are there. */
  readonly isWritten: boolean;
  /** A bridge is new, or gone. */
  readonly onBridge: (name: string, isThere: boolean) => void;
  /** Chains or rules of others changed. */
  readonly onForeignChange: () => void;
}

export class PacketFilter {
  private readonly networks = new Map<string, FirewallNetwork>();
  private readonly ports = new Map<string, PortForward>();
  private readonly closed = new Set<string>();
  private readonly options: PacketFilterOptions;
  private readonly table: string;
  private nft: Nftables | undefined;
  private changes: NetlinkSocket | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: PacketFilterOptions) {
    this.options = options;
    this.table = options.table;
  }

  /** Writes the whole table and begins to watch it. A network that the kernel refuses is reported and left out: the others work. */
  start(): void {
    if (!this.options.isWritten) {
      using nft = new Nftables();
      nft.run(`add table inet ${this.table}\ndelete table inet ${this.table}\n`);
      return;
    }
    this.nft = new Nftables();
    this.changes = NetlinkSocket.open(netlinkProtocols.netfilter, [changesGroup]);
    try {
      this.write();
    } catch (error) {
      this.options.onMisfit(error);
      this.writeOneByOne();
    }
    this.timer = setInterval(() => this.watch(), watchEveryMs).unref();
  }

  private writeOneByOne(): void {
    const networks = [...this.networks.values()];
    this.networks.clear();
    this.write();
    for (const network of networks) {
      try {
        this.addNetwork(network);
      } catch (error) {
        this.options.onBridge(network.bridge, false);
        this.options.onError(error);
      }
    }
  }

  /** @throws System when the kernel refuses it: all is as it was then. */
  addNetwork(network: FirewallNetwork): void {
    const before = this.networks.get(network.bridge);
    if (isDeepStrictEqual(before, network)) return;
    this.networks.set(network.bridge, network);
    try {
      this.run(() => [
        ...(before === undefined ? [] : networkElements(this.table, 'delete', before)),
        ...networkElements(this.table, 'add', network),
      ]);
    } catch (error) {
      if (before === undefined) this.networks.delete(network.bridge);
      else this.networks.set(network.bridge, before);
      throw error;
    }
    if (this.options.isWritten) this.options.onBridge(network.bridge, true);
  }

  /** Also one that another instance has taken out already. */
  removeNetwork(network: FirewallNetwork): void {
    if (!this.networks.delete(network.bridge)) return;
    this.options.onBridge(network.bridge, false);
    this.run(() => [...networkElements(this.table, 'add', network), ...networkElements(this.table, 'delete', network)]);
  }

  addPorts(ports: readonly PortForward[]): void {
    const fresh = ports.filter((port) => !this.ports.has(keyOf(port)));
    for (const port of fresh) {
      this.ports.set(keyOf(port), port);
      this.closed.delete(keyOf(port));
    }
    if (fresh.length > 0) this.run(() => portElements(this.table, 'add', fresh));
  }

  /** Also those that another instance has opened, or has closed already: an element that is added first can be deleted. */
  removePorts(ports: readonly PortForward[]): void {
    if (ports.length === 0) return;
    for (const port of ports) {
      this.ports.delete(keyOf(port));
      this.closed.add(keyOf(port));
    }
    this.run(() => [...portElements(this.table, 'add', ports), ...portElements(this.table, 'delete', ports)]);
  }

  /** Our own, with those not recorded yet, and other instances'. */
  private allPorts(): PortForward[] {
    const all = new Map(this.options.recordedPorts().map((port) => [keyOf(port), port]));
    // Closed, and still in the records for a moment.
    for (const key of this.closed) if (!all.delete(key)) this.closed.delete(key);
    for (const [key, port] of this.ports) all.set(key, port);
    return [...all.values()];
  }

  /** Runs a change; where it does not fit what the kernel has (somebody meddled), the whole table is written. */
  private run(commands: () => string[]): void {
    if (this.nft === undefined) return;
    try {
      this.nft.run(`${commands().join('\n')}\n`);
    } catch (error) {
      this.options.onMisfit(error);
      this.write();
    }
  }

  private write(): void {
    this.nft?.run(baseRules(this.table) + allElements(this.table, [...this.networks.values()], this.allPorts()));
  }

  private watch(): void {
    try {
      const heard = this.changes?.poll();
      if (heard === undefined) return;
      const own = this.nft?.port();
      if (heard.overrun || heard.messages.some((message) => message.sender !== own && changesOthers(message, this.table)))
        this.options.onForeignChange();
      if (!heard.overrun && !heard.messages.some((message) => message.sender !== own && takesFromOurs(message, this.table))) return;
      if (this.isWhole()) return;
      this.write();
      this.options.onRestore();
    } catch (error) {
      this.options.onError(error);
    }
  }

  /** Other instances take elements away too, and rightly: the table itself is looked at. */
  private isWhole(): boolean {
    const listing = this.nft?.list(`table inet ${this.table}`);
    if (listing === undefined) return false;
    const count = (kind: string): number => listing.nftables.filter((entry) => kind in entry).length;
    const elements = listing.nftables.reduce((sum, entry) => sum + elementCount(entry.set) + elementCount(entry.map), 0);
    return (
      count('rule') >=
        baseRules(this.table)
          .split('\n')
          .filter((line) => line.startsWith('add rule')).length && elements >= this.expectedElements()
    );
  }

  private expectedElements(): number {
    const networks = [...this.networks.values()].reduce((sum, network) => sum + networkElements(this.table, 'add', network).length, 0);
    return networks + portElementCount(this.allPorts());
  }

  close(): void {
    clearInterval(this.timer);
    this.changes?.close();
    this.nft?.close();
    this.nft = undefined;
  }
}

/** Something of our table is gone. What our own socket did is as it should be, and however much is published, costs no look. */
function takesFromOurs(message: NetlinkMessage, table: string): boolean {
  return deletions.has(message.type) && isOfOurs(message, table);
}

function changesOthers(message: NetlinkMessage, table: string): boolean {
  return chainChanges.has(message.type) && !isOfOurs(message, table);
}

/** The first byte of a message is its table's family. */
function isOfOurs({ payload }: NetlinkMessage, table: string): boolean {
  if (payload[0] !== inetFamily) return false;
  const name = parseAttributes(payload.subarray(messageHeaderBytes)).get(tableAttribute);
  return name !== undefined && readText(name) === table;
}

function elementCount(set: unknown): number {
  if (typeof set !== 'object' || set === null || !('elem' in set) || !Array.isArray(set.elem)) return 0;
  return set.elem.length;
}

function keyOf({ family, protocol, hostAddress, hostPort, containerAddress, containerPort }: PortForward): string {
  if (hostPort === undefined) return `${family}/${protocol}/to ${containerAddress}/${containerPort}`;
  return `${family}/${protocol}/${hostAddress ?? ''}/${hostPort}`;
}
