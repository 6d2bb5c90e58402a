/**
 * The options of macvlan and ipvlan networks, whose containers are on the wire of one of the host's interfaces, the parent. Pure.
 *
 * Without a parent, or internal, the network is a wire of its own: an interface `dm-<id>` (`di-` for ipvlan) that we make. A parent `eth0.10` that is not there
 * is made as VLAN 10 of eth0. Whichever we made goes with the last network on it.
 */
import { shortId } from '@flotilla/engine-api';
import { Forbidden, InvalidParameter } from '@flotilla/errors';
import type { NetworkRecord } from './network.ts';

export type MacvlanMode = 'bridge' | 'private' | 'vepa' | 'passthru';
export type IpvlanMode = 'l2' | 'l3' | 'l3s';

/** What an interface on a parent is made with. */
export type ChildKind = { readonly kind: 'macvlan'; readonly mode: MacvlanMode } | { readonly kind: 'ipvlan'; readonly mode: IpvlanMode };

export interface ParentWish {
  readonly parent: string;
  /** Made by us when it is not there: as a wire that leads nowhere, or as a VLAN. */
  readonly isOwnWire: boolean;
  readonly child: ChildKind;
}

const macvlanModes: readonly MacvlanMode[] = ['bridge', 'private', 'vepa', 'passthru'];
const ipvlanModes: readonly IpvlanMode[] = ['l2', 'l3', 'l3s'];
/** What the kernel takes as an interface's name. */
export const linkNamePattern = /^(?!\.{1,2}$)[^\s/:\0]{1,15}$/;

export function isOnParent(driver: string): driver is 'macvlan' | 'ipvlan' {
  return driver === 'macvlan' || driver === 'ipvlan';
}

/** @throws InvalidParameter in dockerd's words. */
export function parentWish(driver: 'macvlan' | 'ipvlan', id: string, options: Readonly<Record<string, string>>): ParentWish {
  const child = childKind(driver, options);
  const parent = options.parent ?? '';
  if (parent === 'lo') throw new InvalidParameter(`loopback interface is not a valid ${driver} parent link`);
  if (parent === '') return { parent: `${driver === 'macvlan' ? 'dm' : 'di'}-${shortId(id)}`, isOwnWire: true, child };
  if (!linkNamePattern.test(parent)) throw new InvalidParameter(`invalid interface name: "${parent}"`);
  return { parent, isOwnWire: false, child };
}

function childKind(driver: 'macvlan' | 'ipvlan', options: Readonly<Record<string, string>>): ChildKind {
  if (driver === 'macvlan') {
    const mode = macvlanModes.find((one) => one === (options.macvlan_mode || 'bridge'));
    if (mode !== undefined) return { kind: 'macvlan', mode };
    throw new InvalidParameter(
      `requested macvlan mode '${options.macvlan_mode}' is not valid, 'bridge' mode is the macvlan driver default`,
    );
  }
  const mode = ipvlanModes.find((one) => one === (options.ipvlan_mode || 'l2'));
  if (mode !== undefined) return { kind: 'ipvlan', mode };
  throw new InvalidParameter(`requested ipvlan mode '${options.ipvlan_mode}' is not valid, 'l2' mode is the ipvlan driver default`);
}

/** @throws Forbidden where a parent cannot be shared: one in passthru mode is one network's alone, and macvlan and ipvlan cannot mix. */
export function checkParentShared(wish: ParentWish, others: Iterable<NetworkRecord>): void {
  for (const other of others) {
    if (!isOnParent(other.driver) || other.configOnly === true) continue;
    const theirs = parentWish(other.driver, other.id, other.options);
    if (theirs.parent !== wish.parent) continue;
    if (theirs.child.kind !== wish.child.kind) {
      throw new Forbidden(`${theirs.child.kind} network ${other.id} is already using parent interface ${wish.parent}`);
    }
    if (wish.child.mode === 'passthru') {
      throw new Forbidden(`cannot use mode passthru, macvlan network ${other.id} is already using parent interface ${wish.parent}`);
    }
    if (theirs.child.mode === 'passthru') {
      throw new Forbidden(`macvlan network ${other.id} is already using parent interface ${wish.parent} in mode passthru`);
    }
  }
}

/** `eth0.10` as the interface and the VLAN it names. @throws InvalidParameter in dockerd's words. */
export function parseVlan(name: string): { parent: string; id: number } {
  const [parent = '', idText = '', ...more] = name.split('.');
  if (idText === '') throw new InvalidParameter(`invalid subinterface vlan name ${name}, example formatting is eth0.10`);
  if (more.length > 0) {
    throw new InvalidParameter(`required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received ${name}`);
  }
  if (!/^\d+$/.test(idText)) throw new InvalidParameter(`unable to parse a valid vlan id from: ${idText} (ex. eth0.10 for vlan 10)`);
  const id = Number(idText);
  if (id < 1 || id > 4094) throw new InvalidParameter(`vlan id must be between 1-4094, received: ${id}`);
  return { parent, id };
}
