import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conflict, Unavailable } from '@flotilla/errors';
import { Collection, type Commit } from '@flotilla/records';
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

const container = { id: 'c', config: {}, image: {}, state: { status: 'running', run: { id: 'r' } } } as unknown as ContainerRecord;

function execRecord(state: ExecRecord['state']): ExecRecord {
  const processes = { pid: 0, pidStart: '', monitorPid: 0, monitorStart: '' };
  return { id: 'e', containerId: 'c', runId: 'r', config: { Cmd: ['true'] }, state, exitCode: null, ...processes };
}

/** A session of the exec that `execs` has, whose commits are made by `commit`. */
function sessionOf(execs: Collection<ExecRecord>, commit: (commit: Commit) => Promise<void>): ExecSession {
  const store = { containers: new Map([['c', container]]), execs, commit, fresh: async () => undefined };
  const options = { paths, logger: { debug: () => undefined }, store } as unknown as ExecSessionOptions;
  const exec = execs.get('e');
  if (exec === undefined) throw new Error('there is none');
  return new ExecSession(options, exec, container, { detach: true, tty: false, height: 0, width: 0 });
}

function collectionOf(exec: ExecRecord): Collection<ExecRecord> {
  const execs = new Collection<ExecRecord>('exec');
  execs.apply('e', exec, '1-0');
  return execs;
}

it('that one did not start is written down when Redis is back, and its files stay until then', async () => {
  let isAway = true;
  let asked = 0;
  const written: Commit[] = [];
  const session = sessionOf(collectionOf(execRecord('created')), async (commit) => {
    asked++;
    if (isAway) throw new Unavailable('the record store is not available');
    written.push(commit);
  });
  // Its container has no bundle.
  await expect(session.begin(undefined)).rejects.toThrow('ENOENT');
  await waitFor(() => asked > 1, { what: 'a second attempt' });
  expect(existsSync(paths.execDirectory('e'))).toBe(true);
  isAway = false;
  await session.whenOver;
  const document = expect.objectContaining({ state: 'exited', exitCode: 126 });
  expect(written).toEqual([expect.objectContaining({ puts: [{ kind: 'exec', id: 'e', document, create: false }] })]);
  expect(written[0]?.events).toBeUndefined();
  expect(existsSync(paths.execDirectory('e'))).toBe(false);
});

it.each([
  ['the end of its container tells of it first', true, []],
  ['nothing else does', false, ['exec_die']],
])('its end is told once when %s', async (_when, isFirst, told) => {
  const exec = execRecord('running');
  const execs = collectionOf(exec);
  const actions: string[] = [];
  await sessionOf(execs, async ({ events = [], unchanged = [] }) => {
    if (isFirst && execs.get('e')?.state === 'running') execs.apply('e', { ...exec, state: 'exited', exitCode: 137 }, '2-0');
    if (unchanged.some(({ id, document }) => execs.get(id) !== document)) throw new Conflict('exec/e has changed meanwhile');
    actions.push(...events.map(({ action }) => action));
  }).finish();
  expect(actions).toEqual(told);
});
