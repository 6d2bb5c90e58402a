/**
 * At start: what the kernel has against what the records say, both ways. A sandbox whose namespace is gone (a reboot) is released; a link,
 * port or rule that is missing is made again; a namespace, interface, bridge, address or folder without a record is removed.
 */

import { isConflict } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { Link } from '@flotilla/syscalls';
import type { NetworkRecord } from './network.ts';
import type { Networks } from './networks.ts';
import { tunnelName } from './overlay/tunnel.ts';
import { isOnParent, parentWish } from './parentLinks.ts';
import type { PortHolder } from './ports.ts';
import type { Records } from './records.ts';
import type { EndpointRecord, SandboxRecord } from './sandbox.ts';
import type { Sandboxes } from './sandboxes.ts';
import type { Files, NameServers, PortRules, Stacks } from './sandboxOutside.ts';
import { interfaceWish, portForwards, portTarget } from './sandboxPlan.ts';

export interface ReconcileOptions {
  readonly records: Records;
  readonly networks: Networks;
  readonly sandboxes: Sandboxes;
  readonly stacks: Stacks & { ownLinks(): Link[]; slotNames(): string[]; removeBridge(name: string): void };
  readonly rules: PortRules;
  readonly holder: PortHolder;
  readonly nameServers: NameServers;
  readonly files: Pick<Files, 'refresh'>;
  /** Tokens of other living instances: what they made and did not record yet is theirs. */
  readonly livingOthers: ReadonlySet<string>;
  readonly logger: Logger;
}

export async function reconcile(options: ReconcileOptions): Promise<void> {
  const { records, networks, logger } = options;
  for (const network of records.networks.values()) {
    try {
      networks.realize(network);
    } catch (error) {
      logger.error({ error, network: network.name }, 'a network cannot be brought up');
    }
  }
  const links = new Map(options.stacks.ownLinks().map((link) => [link.name, link]));
  for (const sandbox of [...records.sandboxes.values()]) await reconcileSandbox(options, sandbox, links);
  if (records.areLost) logger.error('records are missing: namespaces and interfaces that none of them knows are left as they are');
  else await removeStrangers(options);
}

async function reconcileSandbox(options: ReconcileOptions, sandbox: SandboxRecord, links: ReadonlyMap<string, Link>): Promise<void> {
  const { stacks, sandboxes, nameServers, logger } = options;
  const { containerId } = sandbox;
  try {
    if (sandbox.kind === 'own' && !stacks.isAlive(sandbox.slot)) {
      await sandboxes.releaseLost(containerId);
      return;
    }
    for (const endpoint of sandbox.endpoints) repairEndpoint(options, sandbox, endpoint, links);
    holdPorts(options, sandbox);
    if (sandbox.dnsPort !== undefined) {
      const port = nameServers.start(containerId, stacks.netnsPath(sandbox.slot), sandbox.dnsPort);
      if (port !== sandbox.dnsPort) {
        const kept = options.records.sandboxes;
        await options.records.commit({
          puts: [kept.put(containerId, { ...sandbox, dnsPort: port })],
          unchanged: [kept.is(containerId, sandbox)],
        });
      }
    }
  } catch (error) {
    // Another instance has changed or released it meanwhile: what it has become is that one's.
    if (isConflict(error)) return;
    logger.error({ error, containerId }, 'a sandbox cannot be brought back whole');
  }
}

/** Most endpoints need nothing: the one listing of links shows that. */
function repairEndpoint(
  options: ReconcileOptions,
  sandbox: SandboxRecord,
  endpoint: EndpointRecord,
  links: ReadonlyMap<string, Link>,
): void {
  const network = options.records.networks.get(endpoint.networkId);
  if (network === undefined || endpoint.interfaceName === '') return;
  const [link, bridge] = [links.get(endpoint.hostLink), links.get(network.bridge)];
  if (link !== undefined && bridge !== undefined && link.master === bridge.index && link.up) return;
  // What was cut off in a connect or a disconnect has not come to the files, or has gone from them.
  options.files.refresh({ ...sandbox, endpoints: sandbox.endpoints.filter(({ id }) => id !== endpoint.id) }, sandbox);
  options.stacks.attach(interfaceWish(options.stacks.netnsPath(sandbox.slot), network, sandbox, endpoint));
}

/** A port that another instance holds is held; one that a process of the host took meanwhile is reported, the rule stays. */
function holdPorts({ holder, rules, logger, livingOthers }: ReconcileOptions, sandbox: SandboxRecord): void {
  for (const port of sandbox.ports) {
    const refusal = holder.hold(port, portTarget(sandbox));
    if (refusal !== undefined && livingOthers.size === 0) {
      logger.warn({ containerId: sandbox.containerId, port, refusal }, 'a published port is not held');
    }
  }
  rules.addPorts(portForwards(sandbox));
}

/** Kinds of interfaces that are a network's, not an endpoint's. */
const networkKinds: ReadonlySet<string> = new Set(['bridge', 'vxlan', 'dummy', 'vlan']);

function interfacesOf(network: NetworkRecord): string[] {
  if (isOnParent(network.driver)) return [parentWish(network.driver, network.id, network.options).parent];
  return [network.bridge, tunnelName(network.bridge)];
}

async function removeStrangers({ records, stacks, livingOthers }: ReconcileOptions): Promise<void> {
  const isOthers = (name: string): boolean => livingOthers.has(name.slice(0, 4));
  const sandboxes = [...records.sandboxes.values()];
  const knownSlots = new Set(sandboxes.map(({ slot }) => slot));
  for (const slot of stacks.slotNames()) {
    if (!knownSlots.has(slot) && !isOthers(slot)) stacks.removeSlot(slot);
  }
  const knownLinks = new Set(sandboxes.flatMap(({ endpoints }) => endpoints.map(({ hostLink }) => hostLink)));
  const known = new Set([...records.networks.values()].flatMap(interfacesOf));
  for (const { name, kind } of stacks.ownLinks()) {
    if (networkKinds.has(kind) && !known.has(name)) stacks.removeBridge(name);
    if (kind === 'veth' && !knownLinks.has(name) && !isOthers(name.slice(2))) stacks.detach(name);
  }
  const held = new Set(
    sandboxes.flatMap(({ endpoints }) =>
      endpoints.flatMap(({ networkId, ipv4, ipv6 }) => [`${networkId}/${ipv4}`, `${networkId}/${ipv6}`]),
    ),
  );
  const lost = [...records.addresses.ids()].filter((id) => !held.has(id));
  if (lost.length > 0) await records.commit({ deletes: lost.map((id) => records.addresses.delete(id)) });
}
