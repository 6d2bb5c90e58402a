/** Addresses, routes and neighbours by rtnetlink: what `ip address`, `ip route` and `ip neigh` do, in the namespace of the socket. */
import { hasCode } from './libc.ts';
import { attribute, type NetlinkSocket, netlinkFlags, parseAttributes, uint32Attribute } from './netlink.ts';
import { addressBytes, addressText } from './socket.ts';

const messageTypes = { newAddress: 20, deleteAddress: 21, getAddress: 22, newRoute: 24, deleteRoute: 25, getRoute: 26 } as const;
const addressAttributes = { address: 1, local: 2, broadcast: 4, flags: 8 } as const;
const routeAttributes = { destination: 1, outInterface: 4, gateway: 5, priority: 6, preferredSource: 7, table: 15 } as const;
const families = { inet: 2, inet6: 10 } as const;
/** IFA_F_NODAD: an IPv6 address usable at once; nobody else can have it, we gave it out. */
const noDuplicateDetection = 0x02;
const mainTable = 254;

export interface InterfaceAddress {
  readonly link: number;
  readonly address: string;
  readonly prefixLength: number;
}

export interface Route {
  /** Network address; `0.0.0.0` or `::` with prefix length 0 is the default route. */
  readonly destination: string;
  readonly prefixLength: number;
  readonly gateway?: string;
  readonly link?: number;
  readonly metric?: number;
  /** The source address this machine prefers there. */
  readonly source?: string;
  readonly scope?: 'global' | 'link';
}

function familyOf(bytes: Buffer): number {
  return bytes.length === 4 ? families.inet : families.inet6;
}

/** struct ifaddrmsg */
function addressHeader(family: number, prefixLength: number, link: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(family, 0);
  header.writeUInt8(prefixLength, 1);
  header.writeUInt32LE(link, 4);
  return header;
}

function addressMessage(wanted: InterfaceAddress): Buffer[] {
  const bytes = addressBytes(wanted.address);
  return [
    addressHeader(familyOf(bytes), wanted.prefixLength, wanted.link),
    attribute(addressAttributes.local, bytes),
    attribute(addressAttributes.address, bytes),
  ];
}

/** Gives an interface an address. Idempotent. IPv4 also gets its broadcast address. */
export function addAddress(socket: NetlinkSocket, wanted: InterfaceAddress): void {
  const parts = addressMessage(wanted);
  const bytes = addressBytes(wanted.address);
  if (bytes.length === 4 && wanted.prefixLength < 31) {
    const broadcast = Buffer.alloc(4);
    broadcast.writeUInt32BE((bytes.readUInt32BE(0) | (0xffffffff >>> wanted.prefixLength)) >>> 0);
    parts.push(attribute(addressAttributes.broadcast, broadcast));
  }
  if (bytes.length === 16) parts.push(uint32Attribute(addressAttributes.flags, noDuplicateDetection));
  const flags = netlinkFlags.create | netlinkFlags.replace;
  socket.request(messageTypes.newAddress, flags, Buffer.concat(parts), `add address ${wanted.address}/${wanted.prefixLength}`);
}

/** Idempotent. */
export function deleteAddress(socket: NetlinkSocket, unwanted: InterfaceAddress): void {
  try {
    socket.request(messageTypes.deleteAddress, 0, Buffer.concat(addressMessage(unwanted)), `delete address ${unwanted.address}`);
  } catch (error) {
    if (!hasCode(error, 'EADDRNOTAVAIL', 'ENODEV')) throw error;
  }
}

/** Addresses of all interfaces, both families. */
export function listAddresses(socket: NetlinkSocket): InterfaceAddress[] {
  return socket.dump(messageTypes.getAddress, addressHeader(0, 0, 0), 'list addresses').flatMap(({ payload }) => {
    const attributes = parseAttributes(payload.subarray(8));
    const bytes = attributes.get(addressAttributes.local) ?? attributes.get(addressAttributes.address);
    if (bytes === undefined) return [];
    return [{ link: payload.readUInt32LE(4), address: addressText(bytes), prefixLength: payload.readUInt8(1) }];
  });
}

/** struct rtmsg */
function routeHeader(family: number, prefixLength: number, scope = 0): Buffer {
  const [bootProtocol, unicast] = [3, 1];
  return Buffer.from([family, prefixLength, 0, 0, mainTable, bootProtocol, scope, unicast, 0, 0, 0, 0]);
}

function routeMessage(route: Route): Buffer {
  const destination = addressBytes(route.destination);
  const scopeLink = 253;
  const isLocal = route.scope === 'link' || (route.scope === undefined && route.gateway === undefined && destination.length === 4);
  const parts = [routeHeader(familyOf(destination), route.prefixLength, isLocal ? scopeLink : 0)];
  if (route.prefixLength > 0) parts.push(attribute(routeAttributes.destination, destination));
  if (route.gateway !== undefined) parts.push(attribute(routeAttributes.gateway, addressBytes(route.gateway)));
  if (route.link !== undefined) parts.push(uint32Attribute(routeAttributes.outInterface, route.link));
  if (route.metric !== undefined) parts.push(uint32Attribute(routeAttributes.priority, route.metric));
  if (route.source !== undefined) parts.push(attribute(routeAttributes.preferredSource, addressBytes(route.source)));
  return Buffer.concat(parts);
}

function routeName(route: Route): string {
  const via = route.gateway === undefined ? '' : ` via ${route.gateway}`;
  return `${route.destination}/${route.prefixLength}${via}`;
}

/** Adds a route to the main table, in place of one for the same destination and metric. */
export function addRoute(socket: NetlinkSocket, route: Route): void {
  const flags = netlinkFlags.create | netlinkFlags.replace;
  socket.request(messageTypes.newRoute, flags, routeMessage(route), `add route ${routeName(route)}`);
}

/** Idempotent. */
export function deleteRoute(socket: NetlinkSocket, route: Route): void {
  try {
    socket.request(messageTypes.deleteRoute, 0, routeMessage(route), `delete route ${routeName(route)}`);
  } catch (error) {
    if (!hasCode(error, 'ESRCH', 'ENODEV')) throw error;
  }
}

/** Unicast routes of the main table, both families. */
export function listRoutes(socket: NetlinkSocket): Route[] {
  const routes: Route[] = [];
  for (const { payload } of socket.dump(messageTypes.getRoute, routeHeader(0, 0), 'list routes')) {
    const family = payload.readUInt8(0);
    if (family !== families.inet && family !== families.inet6) continue;
    const attributes = parseAttributes(payload.subarray(12));
    const table = attributes.get(routeAttributes.table)?.readUInt32LE(0) ?? payload.readUInt8(4);
    if (table !== mainTable || payload.readUInt8(7) !== 1) continue;
    const text = (type: number): string | undefined => {
      const bytes = attributes.get(type);
      return bytes === undefined ? undefined : addressText(bytes);
    };
    routes.push({
      destination: text(routeAttributes.destination) ?? (family === families.inet ? '0.0.0.0' : '::'),
      prefixLength: payload.readUInt8(1),
      gateway: text(routeAttributes.gateway),
      link: attributes.get(routeAttributes.outInterface)?.readUInt32LE(0),
      metric: attributes.get(routeAttributes.priority)?.readUInt32LE(0),
      source: text(routeAttributes.preferredSource),
    });
  }
  return routes;
}

/** struct ndmsg */
function neighbourHeader(family: number, link: number, flags: number): Buffer {
  const permanent = 0x80;
  const header = Buffer.alloc(12);
  header.writeUInt8(family, 0);
  header.writeInt32LE(link, 4);
  header.writeUInt16LE(permanent, 8);
  header.writeUInt8(flags, 10);
  return header;
}

export interface Neighbour {
  readonly link: number;
  readonly mac: string;
  readonly address: string;
}

function neighbourMessage(neighbour: Neighbour, forwarding: boolean): Buffer {
  const bytes = addressBytes(neighbour.address);
  const [bridgeFamily, flagSelf] = [7, 0x02];
  return Buffer.concat([
    forwarding ? neighbourHeader(bridgeFamily, neighbour.link, flagSelf) : neighbourHeader(familyOf(bytes), neighbour.link, 0),
    attribute(1, bytes),
    attribute(2, Buffer.from(neighbour.mac.replaceAll(':', ''), 'hex')),
  ]);
}

/** A permanent ARP or neighbour entry; with `forwarding` a VXLAN's entry: frames for `mac` go to the host at `address`. */
export function addNeighbour(socket: NetlinkSocket, neighbour: Neighbour, forwarding = false): void {
  const newNeighbour = 28;
  const flags = netlinkFlags.create | netlinkFlags.replace;
  socket.request(newNeighbour, flags, neighbourMessage(neighbour, forwarding), `add neighbour ${neighbour.address}`);
}

/** Idempotent. */
export function deleteNeighbour(socket: NetlinkSocket, neighbour: Neighbour, forwarding = false): void {
  const deleteNeighbourType = 29;
  try {
    socket.request(deleteNeighbourType, 0, neighbourMessage(neighbour, forwarding), `delete neighbour ${neighbour.address}`);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENODEV')) throw error;
  }
}
