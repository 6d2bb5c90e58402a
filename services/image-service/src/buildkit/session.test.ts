import { describe, expect, it } from 'vitest';
import { readEntitlements } from './entitlements.ts';
import type { GrpcConnection } from './grpcConnection.ts';
import { Jobs } from './job.ts';
import { ownedName } from './ownedName.ts';
import { Sessions } from './session.ts';

const over = AbortSignal.timeout(0);
const none = new Set<never>();

function connection(): { connection: GrpcConnection; leave: () => void } {
  const gone = new AbortController();
  return { connection: { closed: gone.signal } as Partial<GrpcConnection> as GrpcConnection, leave: () => gone.abort() };
}

describe('a session', () => {
  it('keeps its id from others until it leaves', async () => {
    const sessions = new Sessions();
    const first = connection();
    const session = { id: 'a', sharedKey: '', methods: [] };
    sessions.add({ ...session, connection: first.connection });
    expect(() => sessions.add({ ...session, connection: connection().connection })).toThrow('session a already exists');
    expect((await sessions.wait('a', new AbortController().signal)).connection).toBe(first.connection);
    first.leave();
    sessions.add({ ...session, connection: connection().connection });
  });

  it('is its owner’s, and so is a build', async () => {
    const [jane, john] = [ownedName('jane', 'a'), ownedName('john', 'a')];
    expect(ownedName(undefined, 'a')).toBe('a');
    const sessions = new Sessions();
    sessions.add({ id: jane, sharedKey: '', methods: [], connection: connection().connection });
    await expect(sessions.wait(john, over)).rejects.toThrow();
    const jobs = new Jobs();
    const job = jobs.open(jane, jane, none);
    await expect(jobs.wait(john, over)).rejects.toThrow();
    jobs.cancel(john);
    expect([job.signal.aborted, await jobs.wait(jane, new AbortController().signal)]).toEqual([false, job]);
    expect(() => jobs.open(jane, jane, none)).toThrow('job ID a exists');
  });
});

describe('entitlements', () => {
  it('are the network of the host, or refused in BuildKit’s words', () => {
    expect([...readEntitlements(['network.host', 'network.host'])]).toEqual(['network.host']);
    expect(() => readEntitlements(['security.insecure'])).toThrow(
      'granting entitlement security.insecure is not allowed by build daemon configuration',
    );
    expect(() => readEntitlements(['all'])).toThrow('unknown entitlement all');
  });
});
