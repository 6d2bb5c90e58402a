/**
 * The parents of macvlan and ipvlan networks. What we make carries the engine's id as the link's alias, and only that is ever removed:
 *
 * ```
 * dm-<12 hex>   a wire of a network's own (`di-` for ipvlan): a dummy interface, or a bridge without ports where the kernel has no dummies
 * eth0.10       VLAN 10 of eth0
 * ```
 */
import { errorMessage, InvalidParameter, NotFound, NotImplemented } from '@flotilla/errors';
import {
  changeLink,
  createBridge,
  createDummy,
  createIpvlan,
  createMacvlan,
  createVlan,
  deleteLink,
  findLink,
  hasCode,
  NetlinkSocket,
  requireLink,
} from '@flotilla/syscalls';
import type { Parents } from '../networkKernel.ts';
import { type ParentWish, parseVlan } from '../parentLinks.ts';

const loopback = 1;

export class ParentInterfaces implements Parents {
  private readonly alias: string;
  private readonly socket = NetlinkSocket.open();

  constructor(options: { engineId: string }) {
    this.alias = `flotilla:${options.engineId}`;
  }

  /** The kernel looks for the kind first, and then refuses the loopback interface as a parent. */
  supports(kind: 'macvlan' | 'ipvlan'): boolean {
    const name = 'fl-probe';
    try {
      if (kind === 'macvlan') createMacvlan(this.socket, name, { parent: loopback, mode: 'bridge' });
      else createIpvlan(this.socket, name, { parent: loopback, mode: 'l2' });
      deleteLink(this.socket, name);
      return true;
    } catch (error) {
      return !hasCode(error, 'EOPNOTSUPP');
    }
  }

  ensureParent({ parent, isOwnWire }: ParentWish): void {
    const found = findLink(this.socket, parent);
    if (found !== undefined && found.alias !== this.alias) return;
    if (found === undefined) {
      if (isOwnWire) this.makeWire(parent);
      else this.makeVlan(parent);
    }
    changeLink(this.socket, requireLink(this.socket, parent).index, { up: true, alias: this.alias });
  }

  private makeWire(name: string): void {
    try {
      createDummy(this.socket, name);
    } catch (error) {
      if (!hasCode(error, 'EOPNOTSUPP')) throw error;
      createBridge(this.socket, name);
    }
  }

  private makeVlan(name: string): void {
    const vlan = parseVlan(name);
    const below = findLink(this.socket, vlan.parent);
    if (below === undefined) throw new NotFound(`-o parent interface was not found on the host: ${vlan.parent}`);
    try {
      createVlan(this.socket, name, { parent: below.index, id: vlan.id });
    } catch (error) {
      if (hasCode(error, 'EOPNOTSUPP')) {
        throw new NotImplemented(`failed to create ${name} vlan link: this host's kernel has no VLANs (8021q)`, { cause: error });
      }
      throw new InvalidParameter(`failed to create ${name} vlan link: ${errorMessage(error)}`, { cause: error });
    }
  }

  removeParent(name: string): void {
    if (findLink(this.socket, name)?.alias === this.alias) deleteLink(this.socket, name);
  }
}
