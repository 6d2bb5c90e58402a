import { Unavailable } from '@flotilla/errors';
import { Collection, type Commit } from '@flotilla/records';
import { createLogger } from '@flotilla/service-kit';
import { expect, test } from 'vitest';
import { ExecCollector } from './execCollector.ts';
import type { ExecRecord } from './execRecord.ts';

test('execs are forgotten at the second look after their end, by who has the duties of their container', async () => {
  const execs = new Collection<ExecRecord>('exec');
  let revision = 0;
  let isAway = false;
  const put = (id: string, state: ExecRecord['state'], containerId = 'ours'): void => {
    const processes = { pid: 0, pidStart: '', monitorPid: 0, monitorStart: '' };
    execs.apply(id, { id, containerId, runId: 'r', config: {}, state, exitCode: null, ...processes }, `${++revision}-0`);
  };
  const commit = async ({ deletes = [] }: Commit): Promise<string> => {
    if (isAway) throw new Unavailable('the record store is not available');
    for (const { id } of deletes) execs.apply(id, undefined, `${++revision}-0`);
    return '';
  };
  const collector = new ExecCollector({
    store: { execs, commit },
    ownership: { isMine: (id) => id === 'ours' },
    logger: createLogger({ service: 'test', instance: 'i', level: 'silent' }),
  });
  const left = async (): Promise<string[]> => {
    await collector.look();
    return [...execs.ids()];
  };
  put('made', 'created');
  put('running', 'running');
  put('ended', 'exited');
  put('theirs', 'exited', 'of another');
  expect(await left()).toEqual(['made', 'running', 'ended', 'theirs']);
  put('running', 'exited');
  isAway = true;
  expect(await left()).toEqual(['made', 'running', 'ended', 'theirs']);
  isAway = false;
  expect(await left()).toEqual(['made', 'theirs']);
  expect(await left()).toEqual(['made', 'theirs']);
});
