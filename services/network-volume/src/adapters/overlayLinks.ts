/** Tunnels of overlay networks: `vx-<12 hex>`, a VXLAN interface that learns and floods nothing, a port of the network's bridge `ov-<12 hex>`. */
import {
  addNeighbour,
  addressBytes,
  changeLink,
  createVxlan,
  deleteLink,
  deleteNeighbour,
  findLink,
  NetlinkSocket,
  requireLink,
} from '@flotilla/syscalls';
import type { OverlayLinks as Links, Peer } from '../overlay/peers.ts';
import { tunnelName } from '../overlay/tunnel.ts';

const port = 4789;

export class OverlayLinks implements Links {
  private readonly alias: string;
  private readonly local: Buffer;
  private readonly socket = NetlinkSocket.open();

  constructor(options: { engineId: string; address: string }) {
    this.alias = `flotilla:${options.engineId}`;
    this.local = addressBytes(options.address);
  }

  ensureTunnel(bridge: string, vni: number, mtu: number): void {
    const name = tunnelName(bridge);
    // The underlay's address may be another after a restart.
    if (findLink(this.socket, name) === undefined) createVxlan(this.socket, name, { id: vni, port, local: this.local, mtu });
    const master = requireLink(this.socket, bridge).index;
    changeLink(this.socket, requireLink(this.socket, name).index, { master, up: true, alias: this.alias });
  }

  setPeer(bridge: string, { address, mac, host }: Peer): void {
    const link = findLink(this.socket, tunnelName(bridge))?.index;
    if (link === undefined) return;
    addNeighbour(this.socket, { link, mac, address: host }, true);
    addNeighbour(this.socket, { link, mac, address });
  }

  removePeer(bridge: string, { address, mac, host }: Peer, alsoHost: boolean): void {
    const link = findLink(this.socket, tunnelName(bridge))?.index;
    if (link === undefined) return;
    if (alsoHost) deleteNeighbour(this.socket, { link, mac, address: host }, true);
    deleteNeighbour(this.socket, { link, mac, address });
  }

  removeTunnel(bridge: string): void {
    const found = findLink(this.socket, tunnelName(bridge));
    if (found?.alias === this.alias) deleteLink(this.socket, found.index);
  }
}
