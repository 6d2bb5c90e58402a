/** What other instances change: this one lets go of what it holds for a sandbox, and knows which networks the packet filter should have. */
import { hasBridge, type NetworkRecord } from './network.ts';
import { firewallNetwork, type NetworkRules } from './networkKernel.ts';
import type { PortHolder, PublishedPort } from './ports.ts';
import type { Records } from './records.ts';
import type { SandboxRecord } from './sandbox.ts';
import type { NameServers, PortRules } from './sandboxOutside.ts';
import { portForwards } from './sandboxPlan.ts';

export interface FollowOthersOptions {
  readonly records: Records;
  readonly sandboxes: { isChanging(containerId: string): boolean };
  readonly filter: Pick<PortRules, 'removePorts'> & NetworkRules;
  readonly holder: Pick<PortHolder, 'release'>;
  readonly nameServers: Pick<NameServers, 'stop'>;
  readonly onError: (error: unknown) => void;
}

export function followOthers({ records, sandboxes, filter, holder, nameServers, onError }: FollowOthersOptions): void {
  records.sandboxes.onChange((containerId, now, before) => {
    // What this instance changes itself, it has let go of.
    if (before === undefined || sandboxes.isChanging(containerId)) return;
    // A port that is free again may be another container's by now.
    const held = new Set(before.ports.length === 0 ? [] : [...records.sandboxes.values()].flatMap(({ ports }) => ports.map(portKey)));
    const gone = before.ports.filter((port) => (port.hostPort === 0 ? now === undefined : !held.has(portKey(port))));
    for (const port of gone) holder.release(port);
    if (gone.length > 0) filter.removePorts(portForwards({ ...before, ports: gone }));
    if (now?.dnsPort === undefined) nameServers.stop(containerId);
  });
  // Each instance puts a flushed table back, and would bring back what it does not know to be gone.
  records.networks.onChange((_id, now, before) => {
    try {
      if (now !== undefined && isFiltered(now)) filter.addNetwork(firewallNetwork(now));
      if (now === undefined && before !== undefined && isFiltered(before)) filter.removeNetwork(firewallNetwork(before));
    } catch (error) {
      // The record stands. Who made it brings the network into the kernel too, and takes the record back when that fails.
      onError(error);
    }
  });
}

function isFiltered(network: NetworkRecord): boolean {
  return hasBridge(network) && network.configOnly !== true;
}

/** Whether a container has this port of the host. */
export function isPublished(sandboxes: Iterable<SandboxRecord>, port: PublishedPort): boolean {
  return [...sandboxes].some(({ ports }) => ports.some((one) => portKey(one) === portKey(port)));
}

function portKey({ protocol, hostIp, hostPort }: PublishedPort): string {
  return `${protocol}/${hostIp}/${hostPort}`;
}
