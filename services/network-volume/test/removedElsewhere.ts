/**
 * Two instances' packet filters on one table: what one takes out, and the other hears of only later, does not come back. Prints the table's elements
 * after each step. Run inside the namespace it shall be in.
 */
import { setTimeout } from 'node:timers/promises';
import { Nftables } from '../src/adapters/nftables.ts';
import { PacketFilter } from '../src/adapters/packetFilter.ts';
import { memoryRecords } from '../src/memoryRecords.ts';
import type { NetworkRecord } from '../src/network.ts';
import { followOthers } from '../src/otherInstances.ts';

const misfits: unknown[] = [];

function instance() {
  const records = memoryRecords();
  const filter = new PacketFilter({
    table: 'flotilla',
    isWritten: true,
    onError: (error) => misfits.push(error),
    onMisfit: (error) => misfits.push(error),
    recordedPorts: () => [],
    onRestore: () => undefined,
    onBridge: () => undefined,
    onForeignChange: () => undefined,
  });
  followOthers({
    records,
    sandboxes: { isChanging: () => false },
    filter,
    holder: { release: () => undefined },
    nameServers: { stop: () => undefined },
    onError: (error) => misfits.push(error),
  });
  filter.start();
  return {
    add: (network: NetworkRecord) => records.commit({ puts: [records.networks.put(network.id, network)] }),
    remove: ({ id }: NetworkRecord) => records.commit({ deletes: [records.networks.delete(id)] }),
    close: () => filter.close(),
  };
}

function elements(): string[] {
  using nft = new Nftables();
  const sets = nft
    .list('table inet flotilla')
    ?.nftables.flatMap(({ set }) => (set === undefined ? [] : [set as { name: string; elem?: unknown[] }]));
  return (sets ?? []).filter(({ elem }) => (elem?.length ?? 0) > 0).map(({ name }) => name);
}

const network: NetworkRecord = {
  id: 'n',
  name: 'n',
  driver: 'bridge',
  created: '',
  internal: false,
  attachable: false,
  ingress: false,
  enableIPv4: true,
  enableIPv6: false,
  ipamDriver: 'default',
  ipamOptions: null,
  subnets: [{ subnet: '198.18.5.0/24', gateway: '198.18.5.1', configured: true }],
  options: {},
  labels: {},
  bridge: 'br-n',
};

const [one, two] = [instance(), instance()];
await one.add(network);
await two.add(network);
const there = elements();
await two.remove(network);
// Longer than a filter waits between two looks: the first has put it back, as it knows no better.
await setTimeout(700);
const putBack = elements();
await one.remove(network);
const gone = elements();
one.close();
two.close();
process.stdout.write(JSON.stringify({ there, putBack, gone, misfits: misfits.map(String) }));
