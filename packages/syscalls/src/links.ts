/** Network interfaces by rtnetlink: what `ip link` does. Each function works in the namespace its socket was opened in. */
import { hasCode, SyscallError } from './libc.ts';
import {
  attribute,
  type NetlinkMessage,
  type NetlinkSocket,
  netlinkFlags,
  parseAttributes,
  readText,
  textAttribute,
  uint8Attribute,
  uint16Attribute,
  uint32Attribute,
} from './netlink.ts';

const messageTypes = { newLink: 16, deleteLink: 17, getLink: 18, setLink: 19 } as const;
/** IFLA_* */
const linkAttributes = { address: 1, name: 3, mtu: 4, link: 5, master: 10, info: 18, netnsFd: 28, alias: 20, statistics64: 23 } as const;
const infoAttributes = { kind: 1, data: 2 } as const;
const vethPeer = 1;
const flagUp = 0x1;
const create = netlinkFlags.create | netlinkFlags.exclusive;

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  /** `02:42:ac:11:00:02`; empty where the kind has none. */
  readonly mac: string;
  readonly mtu: number;
  /** bridge, veth, vxlan …; empty for a device of the machine. */
  readonly kind: string;
  /** Index of the bridge it is a port of; 0: none. */
  readonly master: number;
  /** Index of a veth's other end, in that one's namespace, or of the interface it is made on; 0: none. */
  readonly peer: number;
  /** The free text of `ip link set … alias`. */
  readonly alias: string;
}

export interface LinkCounters {
  readonly rxPackets: bigint;
  readonly txPackets: bigint;
  readonly rxBytes: bigint;
  readonly txBytes: bigint;
  readonly rxErrors: bigint;
  readonly txErrors: bigint;
  readonly rxDropped: bigint;
  readonly txDropped: bigint;
}

/** struct ifinfomsg */
function linkHeader(index = 0, flags = 0, change = 0): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

/** The longest name the kernel takes is 15 bytes; it must not hold `/`, `:` or spaces, nor be `.` or `..`. */
function linkName(name: string): Buffer {
  if (!/^(?!\.{1,2}$)[^\s/:\0]{1,15}$/.test(name)) throw new Error(`not an interface name: ${JSON.stringify(name)}`);
  return textAttribute(linkAttributes.name, name);
}

function macBytes(mac: string): Buffer {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new Error(`not a MAC address: ${mac}`);
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

/** Makes a bridge, down and without an address. @throws SyscallError EEXIST */
export function createBridge(socket: NetlinkSocket, name: string, options: { mac?: string; mtu?: number } = {}): void {
  const parts = [linkHeader(), linkName(name)];
  if (options.mac !== undefined) parts.push(attribute(linkAttributes.address, macBytes(options.mac)));
  if (options.mtu !== undefined) parts.push(uint32Attribute(linkAttributes.mtu, options.mtu));
  parts.push(attribute(linkAttributes.info, textAttribute(infoAttributes.kind, 'bridge')));
  socket.request(messageTypes.newLink, create, Buffer.concat(parts), `create bridge ${name}`);
}

export interface VethEnd {
  readonly name: string;
  readonly mac?: string;
  /** Descriptor of the network namespace it is made in; absent: the socket's own. */
  readonly netnsFd?: number;
}

/** Makes a pair of joined interfaces, both down. */
export function createVeth(socket: NetlinkSocket, end: VethEnd, peer: VethEnd, options: { mtu?: number; master?: number } = {}): void {
  const mtu = options.mtu === undefined ? [] : [uint32Attribute(linkAttributes.mtu, options.mtu)];
  const describe = (one: VethEnd): Buffer[] => [
    linkName(one.name),
    ...(one.mac === undefined ? [] : [attribute(linkAttributes.address, macBytes(one.mac))]),
    ...(one.netnsFd === undefined ? [] : [uint32Attribute(linkAttributes.netnsFd, one.netnsFd)]),
    ...mtu,
  ];
  const data = attribute(infoAttributes.data, attribute(vethPeer, [linkHeader(), ...describe(peer)]));
  const payload = Buffer.concat([
    linkHeader(),
    ...describe(end),
    ...(options.master === undefined ? [] : [uint32Attribute(linkAttributes.master, options.master)]),
    attribute(linkAttributes.info, [textAttribute(infoAttributes.kind, 'veth'), data]),
  ]);
  socket.request(messageTypes.newLink, create, payload, `create veth pair ${end.name}, ${peer.name}`);
}

/** Makes an interface that only exists by name; what `ip link add … type dummy` makes. */
export function createDummy(socket: NetlinkSocket, name: string): void {
  const info = attribute(linkAttributes.info, textAttribute(infoAttributes.kind, 'dummy'));
  socket.request(messageTypes.newLink, create, Buffer.concat([linkHeader(), linkName(name), info]), `create dummy ${name}`);
}

/** Removes an interface; a veth's peer goes with it. Idempotent. */
export function deleteLink(socket: NetlinkSocket, link: number | string): void {
  const header = typeof link === 'number' ? [linkHeader(link)] : [linkHeader(), linkName(link)];
  try {
    socket.request(messageTypes.deleteLink, 0, Buffer.concat(header), `delete link ${link}`);
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error;
  }
}

/** Removes an interface without holding up this thread: the kernel takes some ten milliseconds for it. Idempotent. */
export async function deleteLinkInBackground(socket: NetlinkSocket, index: number): Promise<void> {
  try {
    await socket.requestInBackground(messageTypes.deleteLink, 0, linkHeader(index), `delete link ${index}`);
  } catch (error) {
    if (!hasCode(error, 'ENODEV')) throw error;
  }
}

export interface LinkChange {
  readonly up?: boolean;
  readonly name?: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Index of a bridge to become a port of; 0 leaves it. */
  readonly master?: number;
  /** Moves it into that namespace, where it is down and has no addresses. */
  readonly netnsFd?: number;
  readonly alias?: string;
}

/** Changes an interface, all in one message. Renaming needs it to be down. */
export function changeLink(socket: NetlinkSocket, index: number, change: LinkChange): void {
  const parts = [change.up === undefined ? linkHeader(index) : linkHeader(index, change.up ? flagUp : 0, flagUp)];
  if (change.name !== undefined) parts.push(linkName(change.name));
  if (change.mac !== undefined) parts.push(attribute(linkAttributes.address, macBytes(change.mac)));
  if (change.mtu !== undefined) parts.push(uint32Attribute(linkAttributes.mtu, change.mtu));
  if (change.master !== undefined) parts.push(uint32Attribute(linkAttributes.master, change.master));
  if (change.netnsFd !== undefined) parts.push(uint32Attribute(linkAttributes.netnsFd, change.netnsFd));
  if (change.alias !== undefined) parts.push(textAttribute(linkAttributes.alias, change.alias));
  socket.request(messageTypes.newLink, 0, Buffer.concat(parts), `change link ${index} (${Object.keys(change).join(', ')})`);
}

/** Whether a bridge port sends a frame back where it came from, which a container needs to reach its own published port. */
export function setBridgePort(socket: NetlinkSocket, index: number, options: { hairpin?: boolean; isolated?: boolean }): void {
  const [afBridge, protinfo, mode, isolated] = [7, 12, 4, 33];
  const header = linkHeader(index);
  header.writeUInt8(afBridge, 0);
  const parts: Buffer[] = [];
  if (options.hairpin !== undefined) parts.push(uint8Attribute(mode, options.hairpin ? 1 : 0));
  if (options.isolated !== undefined) parts.push(uint8Attribute(isolated, options.isolated ? 1 : 0));
  const nested = 0x8000;
  socket.request(messageTypes.setLink, 0, Buffer.concat([header, attribute(protinfo | nested, parts)]), `change bridge port ${index}`);
}

/** Bridge options: `vlanFiltering`, forwarding delay in hundredths of a second, spanning tree. */
export function setBridgeOptions(
  socket: NetlinkSocket,
  index: number,
  options: { forwardDelay?: number; stp?: boolean; vlanFiltering?: boolean },
): void {
  const data: Buffer[] = [];
  if (options.forwardDelay !== undefined) data.push(uint32Attribute(1, options.forwardDelay));
  if (options.stp !== undefined) data.push(uint32Attribute(5, options.stp ? 1 : 0));
  if (options.vlanFiltering !== undefined) data.push(uint8Attribute(7, options.vlanFiltering ? 1 : 0));
  const info = attribute(linkAttributes.info, [textAttribute(infoAttributes.kind, 'bridge'), attribute(infoAttributes.data, data)]);
  socket.request(messageTypes.newLink, 0, Buffer.concat([linkHeader(index), info]), `change bridge ${index}`);
}

/** @returns undefined when there is no such interface. */
export function findLink(socket: NetlinkSocket, link: number | string): Link | undefined {
  const payload = typeof link === 'number' ? linkHeader(link) : Buffer.concat([linkHeader(), linkName(link)]);
  try {
    const [answer] = socket.request(messageTypes.getLink, 0, payload, `find link ${link}`);
    return answer === undefined ? undefined : parseLink(answer);
  } catch (error) {
    if (hasCode(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** @throws SyscallError ENODEV */
export function requireLink(socket: NetlinkSocket, link: number | string): Link {
  const found = findLink(socket, link);
  const noDevice = 19;
  if (found === undefined) throw new SyscallError('netlink', noDevice, `find link ${link}`);
  return found;
}

export function listLinks(socket: NetlinkSocket): Link[] {
  return socket.dump(messageTypes.getLink, linkHeader(), 'list links').map(parseLink);
}

/** The counters of every interface, by name: what /proc/net/dev shows. */
export function linkCounters(socket: NetlinkSocket): Map<string, LinkCounters> {
  const found = new Map<string, LinkCounters>();
  for (const message of socket.dump(messageTypes.getLink, linkHeader(), 'read counters')) {
    const attributes = parseAttributes(message.payload.subarray(16));
    const counters = attributes.get(linkAttributes.statistics64);
    const name = attributes.get(linkAttributes.name);
    if (counters === undefined || name === undefined) continue;
    const at = (position: number): bigint => counters.readBigUInt64LE(position * 8);
    found.set(readText(name), {
      rxPackets: at(0),
      txPackets: at(1),
      rxBytes: at(2),
      txBytes: at(3),
      rxErrors: at(4),
      txErrors: at(5),
      rxDropped: at(6),
      txDropped: at(7),
    });
  }
  return found;
}

function parseLink(message: NetlinkMessage): Link {
  const attributes = parseAttributes(message.payload.subarray(16));
  const number = (type: number): number => attributes.get(type)?.readUInt32LE(0) ?? 0;
  const text = (type: number): string => readText(attributes.get(type) ?? Buffer.alloc(0));
  const info = parseAttributes(attributes.get(linkAttributes.info) ?? Buffer.alloc(0));
  const mac = attributes.get(linkAttributes.address);
  return {
    index: message.payload.readInt32LE(4),
    name: text(linkAttributes.name),
    up: (message.payload.readUInt32LE(8) & flagUp) !== 0,
    mac: mac?.length === 6 ? (mac.toString('hex').match(/../g) ?? []).join(':') : '',
    mtu: number(linkAttributes.mtu),
    kind: readText(info.get(infoAttributes.kind) ?? Buffer.alloc(0)),
    master: number(linkAttributes.master),
    peer: number(linkAttributes.link),
    alias: text(linkAttributes.alias),
  };
}

export interface VxlanOptions {
  readonly id: number;
  readonly port: number;
  /** This host's address on the underlay. */
  readonly local: Buffer;
  readonly mtu?: number;
}

/** Makes a VXLAN interface that learns nothing: its forwarding entries are put in by hand, and it answers for the neighbours put in. */
export function createVxlan(socket: NetlinkSocket, name: string, options: VxlanOptions): void {
  const portBytes = Buffer.alloc(2);
  portBytes.writeUInt16BE(options.port);
  const data = attribute(infoAttributes.data, [
    uint32Attribute(1, options.id),
    attribute(options.local.length === 4 ? 4 : 17, options.local),
    uint8Attribute(7, 0),
    uint8Attribute(11, 1),
    attribute(15, portBytes),
  ]);
  const info = attribute(linkAttributes.info, [textAttribute(infoAttributes.kind, 'vxlan'), data]);
  const mtu = options.mtu === undefined ? [] : [uint32Attribute(linkAttributes.mtu, options.mtu)];
  socket.request(messageTypes.newLink, create, Buffer.concat([linkHeader(), linkName(name), ...mtu, info]), `create vxlan ${name}`);
}

/** Makes a macvlan on a parent interface; the namespace it is made in may be another's. */
export function createMacvlan(
  socket: NetlinkSocket,
  name: string,
  options: { parent: number; mode: 'private' | 'vepa' | 'bridge' | 'passthru'; netnsFd?: number; mac?: string },
): void {
  const mode = { private: 1, vepa: 2, bridge: 4, passthru: 8 }[options.mode];
  createChild(socket, name, 'macvlan', uint32Attribute(1, mode), options);
}

/** Makes VLAN `id` of a parent interface. */
export function createVlan(socket: NetlinkSocket, name: string, options: { parent: number; id: number }): void {
  createChild(socket, name, 'vlan', uint16Attribute(1, options.id), options);
}

/** Makes an ipvlan on a parent interface. */
export function createIpvlan(
  socket: NetlinkSocket,
  name: string,
  options: { parent: number; mode: 'l2' | 'l3' | 'l3s'; netnsFd?: number },
): void {
  createChild(socket, name, 'ipvlan', uint16Attribute(1, { l2: 0, l3: 1, l3s: 2 }[options.mode]), options);
}

function createChild(
  socket: NetlinkSocket,
  name: string,
  kind: string,
  mode: Buffer,
  options: { parent: number; netnsFd?: number; mac?: string },
): void {
  const parts = [linkHeader(), linkName(name), uint32Attribute(linkAttributes.link, options.parent)];
  if (options.netnsFd !== undefined) parts.push(uint32Attribute(linkAttributes.netnsFd, options.netnsFd));
  if (options.mac !== undefined) parts.push(attribute(linkAttributes.address, macBytes(options.mac)));
  parts.push(attribute(linkAttributes.info, [textAttribute(infoAttributes.kind, kind), attribute(infoAttributes.data, mode)]));
  socket.request(messageTypes.newLink, create, Buffer.concat(parts), `create ${kind} ${name}`);
}
