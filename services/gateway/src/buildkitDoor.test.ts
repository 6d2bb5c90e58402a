import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClientConnection } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { runWithRequest } from '@flotilla/service-kit';
import { type Ticket, TicketServer } from '@flotilla/streams';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BuildKitDoor } from './buildkitDoor.ts';

let folder: string;
let services: Map<string, TicketServer>;
/** What tickets were asked for: of which instance. */
let asked: string[];
/** What was opened: where, and what it was said to be. */
let opened: string[];
let home: string | undefined;
let door: BuildKitDoor;
const signal = new AbortController().signal;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'door-'));
  services = new Map();
  asked = [];
  opened = [];
  home = 'a';
  for (const name of ['a', 'b']) await begin(name);
  const openConnections = async (_request: object, { instance }: { instance?: string } = {}): Promise<{ ticket: Ticket | undefined }> => {
    asked.push(instance ?? 'any');
    const name = instance ?? 'a';
    const admit = (word: Buffer) => {
      const { requestId, session } = ClientConnection.decode(word);
      opened.push(`${name} ${requestId} ${session?.id ?? 'control'}`);
      return async () => undefined;
    };
    return { ticket: services.get(name)?.issueStanding(admit, 60_000) };
  };
  door = new BuildKitDoor({ buildkit: { openConnections }, home: () => home });
});
afterEach(async () => {
  for (const service of services.values()) await service.close(100);
  rmSync(folder, { recursive: true });
});

async function begin(name: string): Promise<void> {
  const service = new TicketServer({ address: `unix:${folder}/${name}.sock`, logger: { warn: () => undefined } });
  await service.listen();
  services.set(name, service);
}

async function open(requestId: string, user = '', session = ''): Promise<void> {
  const identity = user === '' ? {} : { identity: { kind: 'user' as const, name: user } };
  const what = session === '' ? {} : { session: { id: session, sharedKey: '', methods: [] } };
  const { stream } = await runWithRequest({ requestId, ...identity }, () => door.open(what, { given: undefined, signal }));
  stream.destroy();
}

it('asks for a ticket once, and says for each connection what it is', async () => {
  await open('1');
  await open('2', '', 'session');
  expect(asked).toEqual(['a']);
  expect(opened).toEqual(['a 1 control', 'a 2 session']);
});

it('asks for one for each caller', async () => {
  for (const user of ['alice', 'bob', 'alice']) await open('1', user);
  expect(asked).toEqual(['a', 'a']);
});

it('goes where the others go', async () => {
  await open('1');
  home = 'b';
  await open('2');
  home = undefined;
  expect(door.isOpen).toBe(false);
  await open('3');
  expect(asked).toEqual(['a', 'b', 'any']);
  expect(opened).toEqual(['a 1 control', 'b 2 control', 'a 3 control']);
});

it('asks again when the instance no longer knows its ticket', async () => {
  await open('1');
  await services.get('a')?.close(100);
  await begin('a');
  await open('2');
  expect(asked).toEqual(['a', 'a']);
  expect(opened).toEqual(['a 1 control', 'a 2 control']);
});
