/**
 * Publishes 1,000 ports, opens and closes others beside them, has the table flushed, and prints how often the table was looked at, written anew, and the
 * host's own rules asked for: each look costs as much as is published. Run inside the namespace it shall be in.
 */
import { execFileSync } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { Nftables } from '../src/adapters/nftables.ts';
import { PacketFilter } from '../src/adapters/packetFilter.ts';
import type { PortForward } from '../src/firewall.ts';

const seen = { looks: 0, restores: 0, foreign: 0, errors: 0 };
const list = Nftables.prototype.list;
Nftables.prototype.list = function (what) {
  seen.looks += 1;
  return list.call(this, what);
};
const failed = (): void => {
  seen.errors += 1;
};
const filter = new PacketFilter({
  table: 'flotilla',
  onError: failed,
  onMisfit: failed,
  recordedPorts: () => [],
  onRestore: () => {
    seen.restores += 1;
  },
  isWritten: true,
  onBridge: () => undefined,
  onForeignChange: () => {
    seen.foreign += 1;
  },
});
const port = (hostPort: number): PortForward => ({
  family: 4,
  protocol: 'tcp',
  hostPort,
  containerAddress: '172.17.0.2',
  containerPort: 80,
  opened: false,
});
/** Longer than the filter waits between two looks. */
const aWhile = (): Promise<void> => setTimeout(700);

filter.start();
filter.addPorts(Array.from({ length: 1_000 }, (_, index) => port(10_000 + index)));
for (let round = 0; round < 20; round += 1) {
  filter.addPorts([port(9_000)]);
  filter.removePorts([port(9_000)]);
}
await aWhile();
const own = { ...seen };
execFileSync('nft', ['add table inet other; delete table inet other']);
await aWhile();
const others = { ...seen };
execFileSync('nft', ['flush', 'ruleset']);
await aWhile();
const elements = execFileSync('nft', ['list', 'map', 'inet', 'flotilla', 'published4_any'], { encoding: 'utf8' }).match(/172\.17\.0\.2/g);
filter.close();
process.stdout.write(JSON.stringify({ own, others, flushed: seen, elements: elements?.length }));
