import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ClientDirectory } from './clientFiles.ts';
import { ContextCopies } from './contextCopies.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-client-files-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** A client that never sends the end of its list. */
function silentSession(): Session {
  return {
    id: 'id',
    sharedKey: 'key',
    connection: {
      open: (_method: unknown, _metadata: unknown, signal: AbortSignal) => ({
        async *encodedBatches() {
          if (!signal.aborted) await once(signal, 'abort');
          yield* [];
          throw signal.reason;
        },
        cancel: () => undefined,
      }),
    },
  } as unknown as Session;
}

it('that is let go while it is brought leaves no copy, and takes none any more', async () => {
  const progress = {
    during: (_title: string, work: (vertex: unknown) => unknown) => work({ bar: () => undefined }),
  } as unknown as Progress;
  const options = { name: 'context', title: 'load', excludes: [], signal: new AbortController().signal };
  const directory = new ClientDirectory({ ...options, session: silentSession(), copies: new ContextCopies(root, 'own'), progress });
  expect(directory.digests).toBeUndefined();
  const files = directory.files(undefined);
  const failed = expect(files).rejects.toThrow('the build has ended');
  expect(readdirSync(root)).toHaveLength(0);
  await Promise.resolve();
  expect(readdirSync(root)).toHaveLength(1);
  await directory.release();
  await failed;
  expect(readdirSync(root)).toEqual([]);
  await expect(directory.files(['later'])).rejects.toThrow('the build has ended');
  expect(directory.digests).toBeUndefined();
  expect(readdirSync(root)).toEqual([]);
});
