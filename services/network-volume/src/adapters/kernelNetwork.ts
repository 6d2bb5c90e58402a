/**
 * Bridges, namespaces and interfaces in the kernel. What is ours there carries the engine's id as the link's alias, so that another
 * engine's is never touched:
 *
 * ```
 * <exec-root>/netns/<slot>    a namespace bound on a file; slot: 12 hex digits, the first four the making instance's
 * ve<12 hex>                  the host's end of an endpoint, a port of its network's bridge
 * br-<12 hex>, docker0        a network's bridge
 * ```
 *
 * Everything here is synchronous and a matter of a millisecond or less, but for the removal of interfaces.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { System } from '@flotilla/errors';
import {
  addAddress,
  addRoute,
  addressBytes,
  changeLink,
  createBridge,
  createIpvlan,
  createMacvlan,
  createNetns,
  createVeth,
  deleteAddress,
  deleteLink,
  deleteLinkInBackground,
  findLink,
  hasCode,
  inNetns,
  isNetns,
  type Link,
  listAddresses,
  listLinks,
  listRoutes,
  NetlinkSocket,
  readSysctl,
  removeNetns,
  requireLink,
  setBridgePort,
  withNamespaceFile,
  writeSysctl,
} from '@flotilla/syscalls';
import { type Cidr, parseCidr } from '../cidr.ts';
import type { BridgeWish, Gateways, InterfaceWish, Joint, Slot } from '../hostNetwork.ts';

const maxIdleSlots = 4096;
/** dockerd gives it to each bridge with IPv6. It asks for neighbours at once, where one of the kernel's own is only good after a second. */
const bridgeLinkLocal = 'fe80::1/64';

export class KernelNetwork {
  private readonly folder: string;
  private readonly alias: string;
  private readonly token: string;
  private readonly forwards: boolean;
  private readonly socket = NetlinkSocket.open();
  private readonly removal = NetlinkSocket.open();
  private removals: Promise<void> = Promise.resolve();

  /** Works in the network namespace of the calling thread, for life. `token`: four hex digits that no other living instance has. */
  constructor(options: { netnsFolder: string; engineId: string; token: string; forwards: boolean }) {
    this.forwards = options.forwards;
    this.token = options.token;
    this.folder = options.netnsFolder;
    this.alias = `flotilla:${options.engineId}`;
    mkdirSync(this.folder, { recursive: true, mode: 0o711 });
  }

  /** Lets this host forward packets between its interfaces, unless the operator sees to that. */
  enableForwarding(family: 4 | 6): void {
    if (!this.forwards) return;
    const name = family === 4 ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding';
    if (readSysctl(name) !== '1') writeSysctl(name, '1');
  }

  hasIPv6(): boolean {
    try {
      return readSysctl('net.ipv6.conf.lo.disable_ipv6') === '0';
    } catch {
      return false;
    }
  }

  /** Whether an interface of this name belongs to somebody else. */
  isForeign(name: string): boolean {
    const link = findLink(this.socket, name);
    return link !== undefined && link.alias !== this.alias;
  }

  exists(name: string): boolean {
    return findLink(this.socket, name) !== undefined;
  }

  addressOf(name: string, family: 4 | 6): string | undefined {
    const index = findLink(this.socket, name)?.index;
    const found = listAddresses(this.socket).find(
      ({ link, address }) => link === index && (address.includes(':') ? 6 : 4) === family && !address.startsWith('fe80:'),
    );
    return found === undefined ? undefined : `${found.address}/${found.prefixLength}`;
  }

  /** @throws System, in dockerd's words, when an interface of this name is no bridge. */
  checkBridge(name: string): void {
    const link = findLink(this.socket, name);
    if (link !== undefined && link.kind !== 'bridge') throw new System(`existing interface ${name} is not a bridge`);
  }

  /** Makes a bridge what it should be. One of ours has no other addresses; one that somebody else made only gets what it lacks. */
  ensureBridge(wish: BridgeWish): void {
    this.checkBridge(wish.name);
    const isOurs = !this.isForeign(wish.name);
    const mtu = wish.mtu === undefined ? {} : { mtu: wish.mtu };
    if (findLink(this.socket, wish.name) === undefined) {
      const mac = `02:42:${(randomBytes(4).toString('hex').match(/../g) ?? []).join(':')}`;
      createBridge(this.socket, wish.name, { mac, ...mtu });
    }
    const { index } = requireLink(this.socket, wish.name);
    const hasIPv6 = wish.addresses.some((address) => address.includes(':'));
    if (hasIPv6 || isOurs) trySysctl(`net/ipv6/conf/${wish.name}/disable_ipv6`, hasIPv6 ? '0' : '1');
    // What makes 127.0.0.1:<published port> reach a container; the packet filter drops 127/8 that comes in from a bridge.
    writeSysctl(`net/ipv4/conf/${wish.name}/route_localnet`, '1');
    if (isOurs) this.removeAddresses(index, wish.addresses);
    for (const text of [...wish.addresses, ...(isOurs && hasIPv6 ? [bridgeLinkLocal] : [])])
      addAddress(this.socket, { link: index, ...splitAddress(text) });
    changeLink(this.socket, index, { up: true, ...(isOurs ? { alias: this.alias } : {}), ...mtu });
  }

  /** @param kept - addresses that stay, as do link-local ones. */
  private removeAddresses(link: number, kept: readonly string[]): void {
    for (const found of listAddresses(this.socket)) {
      const isLinkLocal = found.address.startsWith('fe80:');
      if (found.link !== link || isLinkLocal || kept.includes(`${found.address}/${found.prefixLength}`)) continue;
      deleteAddress(this.socket, found);
    }
  }

  /** Removes a bridge that we made. */
  removeBridge(name: string): void {
    if (!this.isForeign(name)) deleteLink(this.socket, name);
  }

  /** Bridges and host ends of ours, by name. */
  ownLinks(): Link[] {
    return listLinks(this.socket).filter(({ alias }) => alias === this.alias);
  }

  /** Blocks the host has routes or addresses in, but for our own bridges'. */
  occupiedBlocks(): Cidr[] {
    const own = new Set(this.ownLinks().map(({ index }) => index));
    const routes = listRoutes(this.socket)
      .filter(({ link, prefixLength }) => prefixLength > 0 && !(link !== undefined && own.has(link)))
      .map(({ destination, prefixLength }) => `${destination}/${prefixLength}`);
    const addresses = listAddresses(this.socket)
      .filter(({ link }) => !own.has(link))
      .map(({ address, prefixLength }) => `${address}/${prefixLength}`);
    return [...routes, ...addresses].flatMap((text) => parseCidr(text) ?? []);
  }

  netnsPath(slot: string): string {
    return join(this.folder, slot);
  }

  isAlive(slot: string): boolean {
    return isNetns(this.netnsPath(slot));
  }

  /** Makes a namespace, lo up, and its eth0. */
  makeSlot(): Slot {
    if (readdirSync(this.folder).length > maxIdleSlots) throw new Error('too many network namespaces');
    const name = this.newName();
    const netnsPath = this.makeNetns(name);
    const hostLink = `ve${name}`;
    try {
      this.makePair(hostLink, netnsPath, 'eth0');
      const innerIndex = this.inside(netnsPath, (socket) => requireLink(socket, 'eth0').index);
      return { name, netnsPath, hostLink, hostIndex: requireLink(this.socket, hostLink).index, innerIndex };
    } catch (error) {
      removeNetns(netnsPath);
      throw error;
    }
  }

  /** Makes a namespace with nothing but lo. */
  makeBareSlot(): { name: string; netnsPath: string } {
    const name = this.newName();
    return { name, netnsPath: this.makeNetns(name) };
  }

  /** A name for the host's end of a further endpoint. */
  newHostLink(): string {
    return `ve${this.newName()}`;
  }

  private newName(): string {
    return this.token + randomBytes(4).toString('hex');
  }

  private makeNetns(name: string): string {
    const path = this.netnsPath(name);
    createNetns(path);
    this.inside(path, (socket) => {
      // Interfaces get IPv6 only where their network has it; lo keeps ::1.
      trySysctl('net/ipv6/conf/default/disable_ipv6', '1');
      trySysctl('net/ipv4/ping_group_range', '0 2147483647');
      trySysctl('net/ipv4/ip_unprivileged_port_start', '0');
      changeLink(socket, requireLink(socket, 'lo').index, { up: true });
    });
    return path;
  }

  private makePair(hostLink: string, netnsPath: string, innerName: string): void {
    withNamespaceFile(netnsPath, (netnsFd) => createVeth(this.socket, { name: hostLink }, { name: innerName, netnsFd }));
    trySysctl(`net/ipv6/conf/${hostLink}/disable_ipv6`, '1');
    changeLink(this.socket, requireLink(this.socket, hostLink).index, { alias: this.alias });
  }

  /** The name inside may still be that of an interface which is being removed in the background. */
  private makeFurtherPair(hostLink: string, netnsPath: string, innerName: string): void {
    try {
      this.makePair(hostLink, netnsPath, innerName);
    } catch (error) {
      const going = hasCode(error, 'EEXIST') ? this.detachedPeer(netnsPath, innerName) : undefined;
      if (going === undefined) throw error;
      deleteLink(this.socket, going.index);
      this.makePair(hostLink, netnsPath, innerName);
    }
  }

  /** The host's end of an interface that `detach` has taken down. */
  private detachedPeer(netnsPath: string, innerName: string): Link | undefined {
    const inner = this.inside(netnsPath, (socket) => findLink(socket, innerName));
    // Gone meanwhile: index 0 is nobody's.
    const peer = inner?.kind === 'veth' ? findLink(this.socket, inner.peer) : undefined;
    return peer?.kind === 'veth' && peer.alias === this.alias && !peer.up ? peer : undefined;
  }

  /** Gives a namespace an interface, with its addresses and routes, joined to a bridge or to a parent. Idempotent. */
  attach(wish: InterfaceWish): void {
    if (wish.joint.kind === 'child') this.makeChild(wish, wish.joint);
    else if (wish.joint.kind === 'given') this.takeIn(wish, wish.joint.source);
    else if (findLink(this.socket, wish.joint.hostLink) === undefined) this.makeFurtherPair(wish.joint.hostLink, wish.netnsPath, wish.name);
    const mtu = wish.mtu === undefined ? {} : { mtu: wish.mtu };
    this.inside(wish.netnsPath, (socket) => {
      const inner = this.innerLink(socket, wish);
      if (wish.addresses.some((address) => address.includes(':'))) trySysctl(`net/ipv6/conf/${wish.name}/disable_ipv6`, '0');
      // An ipvlan interface has its parent's address.
      const mac = wish.mac === '' || inner.mac === wish.mac || inner.kind === 'ipvlan' ? {} : { mac: wish.mac };
      changeLink(socket, inner.index, { up: true, ...mac, ...mtu });
      for (const text of wish.addresses) addAddress(socket, { link: inner.index, ...splitAddress(text) });
      setInterfaceSysctls(wish.sysctls);
      for (const { destination, gateway } of wish.routes) {
        addRoute(socket, { ...splitBlock(destination), link: inner.index, ...(gateway === undefined ? {} : { gateway }) });
      }
      if (wish.gateways !== undefined) addDefaultRoutes(socket, inner.index, wish.gateways);
    });
    // The bridge comes last: an interface that is its port is whole, which is what a reconcile looks at.
    if (wish.joint.kind === 'port') this.joinBridge(wish.joint, mtu);
  }

  /** The interface inside; that of a slot made ahead has to get its name first. */
  private innerLink(socket: NetlinkSocket, { name, joint }: InterfaceWish): Link {
    const found = findLink(socket, name);
    if (found !== undefined || joint.kind !== 'port') return found ?? requireLink(socket, name);
    changeLink(socket, requireLink(socket, 'eth0').index, { name });
    return requireLink(socket, name);
  }

  private joinBridge(joint: Extract<Joint, { kind: 'port' }>, mtu: { mtu?: number }): void {
    const host = requireLink(this.socket, joint.hostLink);
    const master = requireLink(this.socket, joint.bridge).index;
    if (joint.interContainer && !joint.hairpin) {
      changeLink(this.socket, host.index, { master, up: true, ...mtu });
      return;
    }
    // Only a port of a bridge has these settings.
    changeLink(this.socket, host.index, { master, ...mtu });
    setBridgePort(this.socket, host.index, { isolated: !joint.interContainer, hairpin: joint.hairpin });
    changeLink(this.socket, host.index, { up: true });
  }

  private makeChild(wish: InterfaceWish, { parent, child }: Extract<Joint, { kind: 'child' }>): void {
    if (this.inside(wish.netnsPath, (socket) => findLink(socket, wish.name)) !== undefined) return;
    const link = requireLink(this.socket, parent);
    withNamespaceFile(wish.netnsPath, (netnsFd) => {
      const place = { parent: link.index, netnsFd };
      if (child.kind === 'macvlan') createMacvlan(this.socket, wish.name, { ...place, mode: child.mode, mac: wish.mac });
      else createIpvlan(this.socket, wish.name, { ...place, mode: child.mode });
    });
  }

  /** Moves an interface of the host inside. */
  private takeIn({ netnsPath, name }: InterfaceWish, source: string): void {
    if (this.inside(netnsPath, (socket) => findLink(socket, name)) !== undefined) return;
    const link = findLink(this.socket, source);
    if (link === undefined) throw new System(`failed to get link by name "${source}": Link not found`);
    withNamespaceFile(netnsPath, (netnsFd) => changeLink(this.socket, link.index, { up: false, netnsFd, name }));
  }

  /** Moves it out again, to what it was called there. Idempotent. */
  giveBack(netnsPath: string, name: string, source: string): void {
    if (!isNetns(netnsPath)) return;
    withNamespaceFile('/proc/thread-self/ns/net', (netnsFd) =>
      this.inside(netnsPath, (socket) => {
        const link = findLink(socket, name);
        if (link !== undefined) changeLink(socket, link.index, { up: false, netnsFd, name: source });
      }),
    );
  }

  /** Takes an interface that hangs on a parent out of a namespace. Idempotent. */
  removeChild(netnsPath: string, name: string): void {
    if (isNetns(netnsPath)) this.inside(netnsPath, (socket) => deleteLink(socket, name));
  }

  /** Sets where packets for elsewhere go; older default routes are replaced. */
  setGateways(wish: Gateways): void {
    if (wish.name === undefined) return;
    const { name } = wish;
    this.inside(wish.netnsPath, (socket) => addDefaultRoutes(socket, requireLink(socket, name).index, wish));
  }

  /**
   * Takes an endpoint off its network: at once nobody reaches its address any more; the interface goes a little later, in the background.
   * Idempotent.
   */
  detach(hostLink: string): void {
    const link = findLink(this.socket, hostLink);
    if (link === undefined || link.alias !== this.alias) return;
    try {
      changeLink(this.socket, link.index, { up: false });
    } catch (error) {
      // Its namespace is going, and takes it along.
      if (!hasCode(error, 'ENODEV')) throw error;
    }
    this.removals = this.removals.then(() => deleteLinkInBackground(this.removal, link.index)).catch(() => undefined);
  }

  /** Waits until interfaces detached so far are gone. */
  settled(): Promise<void> {
    return this.removals;
  }

  removeSlot(name: string): void {
    removeNetns(this.netnsPath(name));
  }

  slotNames(): string[] {
    return existsSync(this.folder) ? readdirSync(this.folder).filter((name) => /^[0-9a-f]{12}$/.test(name)) : [];
  }

  /** Sets `net.*` settings inside. @throws Error of the first that the kernel refuses. */
  setSysctls(netnsPath: string, sysctls: Readonly<Record<string, string>>): void {
    inNetns(netnsPath, () => {
      for (const [name, value] of Object.entries(sysctls)) writeSysctl(name, value);
    });
  }

  private inside<T>(netnsPath: string, work: (socket: NetlinkSocket) => T): T {
    return inNetns(netnsPath, () => {
      using socket = NetlinkSocket.open();
      return work(socket);
    });
  }
}

function addDefaultRoutes(socket: NetlinkSocket, link: number, { ipv4, ipv6 }: { readonly ipv4?: string; readonly ipv6?: string }): void {
  if (ipv4 !== undefined) addRoute(socket, { destination: '0.0.0.0', prefixLength: 0, gateway: ipv4, link });
  if (ipv6 !== undefined) addRoute(socket, { destination: '::', prefixLength: 0, gateway: ipv6, link });
}

/** @throws System, for the client: which settings there are depends on the kernel. */
function setInterfaceSysctls(sysctls: Readonly<Record<string, string>>): void {
  for (const [path, value] of Object.entries(sysctls)) {
    try {
      writeSysctl(path, value);
    } catch (error) {
      const reason = hasCode(error, 'ENOENT') ? 'no such file or directory' : 'invalid argument';
      throw new System(`failed to set /proc/sys/${path}=${value}: ${reason}`, { cause: error });
    }
  }
}

function splitAddress(text: string): { address: string; prefixLength: number } {
  const [address = '', length = ''] = text.split('/');
  addressBytes(address);
  return { address, prefixLength: Number(length) };
}

function splitBlock(text: string): { destination: string; prefixLength: number } {
  const { address, prefixLength } = splitAddress(text);
  return { destination: address, prefixLength };
}

/** A setting that the kernel may not have (IPv6 off) or that is read-only here. */
function trySysctl(name: string, value: string): void {
  try {
    writeSysctl(name, value);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EROFS', 'EACCES', 'EPERM')) throw error;
  }
}
