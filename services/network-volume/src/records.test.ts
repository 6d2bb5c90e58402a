import { expect, it } from 'vitest';
import { memoryRecords } from './memoryRecords.ts';
import { connectedPuts, newSandboxPuts } from './records.ts';
import type { EndpointRecord, SandboxRecord } from './sandbox.ts';

const endpoint = (ipv4: string) => ({ networkId: 'n', ipv4 }) as EndpointRecord;
const sandbox = (sandboxId: string, ...endpoints: EndpointRecord[]) =>
  ({ containerId: 'c', sandboxId, endpoints }) as unknown as SandboxRecord;

it('a container has one sandbox: a second new one is a conflict, and a connect changes the one that is there', async () => {
  const records = memoryRecords();
  const [first, second] = [endpoint('10.0.0.2'), endpoint('10.0.0.3')];
  await records.commit({ puts: newSandboxPuts(records, sandbox('one', first)) });
  await expect(records.commit({ puts: newSandboxPuts(records, sandbox('two', second)) })).rejects.toMatchObject({ kind: 'Conflict' });
  await records.commit({ puts: connectedPuts(records, sandbox('one', first, second), second) });
  expect(records.sandboxes.get('c')).toEqual(sandbox('one', first, second));
  expect([...records.addresses.ids()]).toEqual(['n/10.0.0.2', 'n/10.0.0.3']);
});
