/** Sandboxes of two instances: what one has done, and the other hears of only when it asks. */
import { createLogger } from '@flotilla/service-kit';
import { beforeEach, expect, it } from 'vitest';
import { type MemoryRecords, memoryRecords } from './memoryRecords.ts';
import { type ReconcileOptions, reconcile } from './reconcile.ts';
import type { SandboxRecord } from './sandbox.ts';
import { Sandboxes, type SandboxesOptions } from './sandboxes.ts';

const id = 'c'.repeat(64);
const sandbox: SandboxRecord = {
  ...{ containerId: id, containerName: 'web', hostname: 'web', domainname: '', kind: 'own', sandboxId: 's', slot: 'slot', ports: [] },
  ...{ endpoints: [], exposedPorts: [], dns: [], dnsSearch: [], dnsOptions: [], extraHosts: [], links: [] },
};

let records: MemoryRecords;
let slots: Set<string>;
beforeEach(() => {
  records = memoryRecords();
  slots = new Set(['slot']);
});

const stacks = {
  netnsPath: (slot: string) => slot,
  isAlive: (slot: string) => slots.has(slot),
  removeSlot: (slot: string) => void slots.delete(slot),
  slotNames: () => [...slots],
  ownLinks: () => [],
};

function instance(): Sandboxes {
  return new Sandboxes({
    records,
    stacks,
    rules: { removePorts: () => undefined },
    flows: { forgetThoseOf: async () => undefined },
    files: { remove: () => undefined, refreshLinkedTo: () => undefined },
    nameServers: { stop: () => undefined },
    plugged: { leave: async (_endpoints: unknown, dismantle: () => void) => dismantle() },
    hasOthers: () => true,
  } as unknown as SandboxesOptions);
}

/** What the other instance commits is heard with the next `fresh`. */
function heardLater(commit: () => Promise<unknown>): void {
  Object.assign(records, { fresh: commit });
}

it('one is released that another instance has made, and died', async () => {
  heardLater(() => records.commit({ puts: [records.sandboxes.put(id, sandbox)] }));
  await instance().release({ containerId: id, remove: true });
  expect(records.sandboxes.size).toBe(0);
  expect(slots.size).toBe(0);
});

it('one that another instance has made is renamed', async () => {
  heardLater(() => records.commit({ puts: [records.sandboxes.put(id, sandbox)] }));
  await instance().rename(id, 'site');
  expect(records.sandboxes.get(id)?.containerName).toBe('site');
});

it('a start brings none back that another instance releases meanwhile', async () => {
  await records.commit({ puts: [records.sandboxes.put(id, { ...sandbox, dnsPort: 5300 })] });
  const errors: unknown[] = [];
  await reconcile({
    records,
    stacks,
    networks: { realize: () => undefined },
    sandboxes: instance(),
    rules: { addPorts: () => undefined },
    holder: { hold: () => undefined },
    // Its port is somebody else's by now.
    nameServers: {
      start: () => {
        slots.delete('slot');
        void records.commit({ deletes: [records.sandboxes.delete(id)] });
        return 5301;
      },
    },
    files: { refresh: () => undefined },
    livingOthers: new Set(['abcd']),
    logger: { ...createLogger({ service: 'test', instance: 'i', level: 'silent' }), error: (fields: unknown) => errors.push(fields) },
  } as unknown as ReconcileOptions);
  expect(records.sandboxes.size).toBe(0);
  expect(errors).toEqual([]);
});
