import { expect, it } from 'vitest';
import { memoryRecords } from './memoryRecords.ts';
import type { NetworkRecord } from './network.ts';
import { followOthers } from './otherInstances.ts';
import type { SandboxRecord } from './sandbox.ts';

const port = { protocol: 'tcp', hostIp: '0.0.0.0', hostPort: 8080, containerPort: 80 } as const;
const sandbox = (containerId: string, ports: SandboxRecord['ports']): SandboxRecord => ({
  containerId,
  containerName: 'web',
  hostname: 'web',
  domainname: '',
  kind: 'own',
  sandboxId: 's',
  slot: '',
  endpoints: [],
  ports,
  exposedPorts: [],
  dns: [],
  dnsSearch: [],
  dnsOptions: [],
  extraHosts: [],
  links: [],
});

it('lets go of what another instance has closed, not of its own work and not of what is another container’s by now', async () => {
  const records = memoryRecords();
  const released: number[] = [];
  const stopped: string[] = [];
  let own = '';
  followOthers({
    records,
    sandboxes: { isChanging: (id) => id === own },
    filter: { removePorts: () => undefined, addNetwork: () => undefined, removeNetwork: () => undefined },
    holder: { release: ({ hostPort }) => void released.push(hostPort) },
    nameServers: { stop: (id) => void stopped.push(id) },
    onError: (error) => expect.unreachable(String(error)),
  });
  const put = (record: SandboxRecord) => records.commit({ puts: [records.sandboxes.put(record.containerId, record)] });
  const remove = (id: string) => records.commit({ deletes: [records.sandboxes.delete(id)] });
  await put(sandbox('a', [port]));
  await remove('a');
  expect([released, stopped]).toEqual([[8080], ['a']]);
  own = 'b';
  await put(sandbox('b', [port]));
  await remove('b');
  own = '';
  await put(sandbox('c', [port]));
  await put(sandbox('d', [port]));
  await remove('c');
  expect(released).toEqual([8080]);
});

it('reports a network that the packet filter refuses: who saved it learns that it is saved', async () => {
  const records = memoryRecords();
  const errors: unknown[] = [];
  const refuse = (): never => {
    throw new Error('refused');
  };
  followOthers({
    records,
    sandboxes: { isChanging: () => false },
    filter: { removePorts: () => undefined, addNetwork: refuse, removeNetwork: refuse },
    holder: { release: () => undefined },
    nameServers: { stop: () => undefined },
    onError: (error) => errors.push(error),
  });
  const network = { id: 'n', driver: 'bridge', subnets: [], options: {} } as unknown as NetworkRecord;
  await records.commit({ puts: [records.networks.put('n', network)] });
  await records.commit({ deletes: [records.networks.delete('n')] });
  expect(errors).toEqual([new Error('refused'), new Error('refused')]);
});
