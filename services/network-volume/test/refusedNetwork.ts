/**
 * Networks that nftables cannot have, before and after a start of the packet filter. Prints which were refused and which bridges the table has then. Run inside
 * the namespace it shall be in.
 */
import { execFileSync } from 'node:child_process';
import { PacketFilter } from '../src/adapters/packetFilter.ts';
import type { FirewallNetwork } from '../src/firewall.ts';

function instance() {
  const errors: unknown[] = [];
  const without: string[] = [];
  const filter = new PacketFilter({
    table: 'flotilla',
    onError: (error) => errors.push(error),
    onMisfit: () => undefined,
    recordedPorts: () => [],
    onRestore: () => undefined,
    isWritten: true,
    onBridge: (name, isThere) => (isThere ? undefined : void without.push(name)),
    onForeignChange: () => undefined,
  });
  return { filter, errors, without };
}

const network = (bridge: string, subnet: string, trusted: string[] = []): FirewallNetwork => ({
  bridge,
  subnets: [subnet],
  masquerade: true,
  gatewayMode: { 4: 'nat', 6: 'nat' },
  hostAddress: {},
  trusted,
  internal: false,
  interContainer: true,
});

function listed(): string[] {
  const { nftables } = JSON.parse(execFileSync('nft', ['-j', 'list', 'set', 'inet', 'flotilla', 'bridges'], { encoding: 'utf8' })) as {
    nftables: { set?: { elem: string[] } }[];
  };
  return nftables.flatMap(({ set }) => set?.elem ?? []).sort();
}

const networks = [
  network('br-one', '198.18.0.0/24'),
  network('br-overlaps', '198.18.0.128/25'),
  network('br-fault', '198.18.1.0/24', ['a"b']),
  network('br-two', '198.18.2.0/24'),
];

const running = instance();
running.filter.start();
const refused = networks.filter((one) => {
  try {
    running.filter.addNetwork(one);
    return false;
  } catch {
    return true;
  }
});
const bridges = listed();
running.filter.close();

const starting = instance();
for (const one of networks) starting.filter.addNetwork(one);
starting.filter.start();
const atStart = { bridges: listed(), reported: starting.errors.length, without: starting.without };
starting.filter.close();
process.stdout.write(JSON.stringify({ refused: refused.map(({ bridge }) => bridge), bridges, atStart, errors: running.errors.length }));
