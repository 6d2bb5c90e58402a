import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Unavailable } from '@flotilla/errors';
import type { Commit } from '@flotilla/records';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ContainerRecord } from './container.ts';
import type { ExecRecord } from './execRecord.ts';
import { ExecSession, type ExecSessionOptions } from './execSession.ts';
import { Paths } from './paths.ts';

let root: string;
let paths: Paths;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'exec-session-'));
  paths = new Paths(join(root, 'data'), join(root, 'exec'));
});
afterEach(() => rmSync(root, { recursive: true }));

it('that one did not start is written down when Redis is back, and its files stay until then', async () => {
  const container = { id: 'c', state: { status: 'running', run: { id: 'r' } } } as unknown as ContainerRecord;
  const exec = {
    id: 'e',
    containerId: 'c',
    runId: 'r',
    config: { Cmd: ['true'] },
    state: 'created',
    pid: 0,
    pidStart: '',
  } as unknown as ExecRecord;
  let isAway = true;
  let asked = 0;
  const written: Commit[] = [];
  const options = {
    paths,
    logger: { debug: () => undefined },
    store: {
      containers: new Map([['c', container]]),
      execs: Object.assign(new Map([['e', exec]]), { put: (id: string, document: unknown) => ({ kind: 'exec', id, document }) }),
      commit: async (commit: Commit) => {
        asked++;
        if (isAway) throw new Unavailable('the record store is not available');
        written.push(commit);
      },
    },
  } as unknown as ExecSessionOptions;
  const session = new ExecSession(options, exec, container, { detach: true, tty: false, height: 0, width: 0 });
  // Its container has no bundle.
  await expect(session.begin(undefined)).rejects.toThrow('ENOENT');
  await waitFor(() => asked > 1, { what: 'a second attempt' });
  expect(existsSync(paths.execDirectory('e'))).toBe(true);
  isAway = false;
  await session.whenOver;
  expect(written).toEqual([{ puts: [{ kind: 'exec', id: 'e', document: expect.objectContaining({ state: 'exited', exitCode: 126 }) }] }]);
  expect(existsSync(paths.execDirectory('e'))).toBe(false);
});
