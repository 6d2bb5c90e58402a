/**
 * What is measured. A row measures one engine at a time and gives one figure; main.ts alternates the engines, repeats, and takes medians.
 * Every row cleans up what it made.
 */
import { randomUUID } from 'node:crypto';
import { buildRows } from './buildRows.ts';
import { containerRows } from './containerRows.ts';
import type { Engine } from './engine.ts';
import { idleRows } from './idleRows.ts';
import { imageRows } from './imageRows.ts';
import { networkRows } from './networkRows.ts';
import { requestsASecond } from './reader.ts';
import { type Row, removeAll, type Setting, shortLived, sleeper, started } from './row.ts';
import { inParallel, timed } from './statistics.ts';

/** create, start, wait, remove over the bare API. */
async function runOnce(engine: Engine, image: string): Promise<void> {
  const id = await engine.create(shortLived(image));
  const waiting = engine.call('POST', `/containers/${id}/wait?condition=next-exit`);
  await engine.call('POST', `/containers/${id}/start`);
  await waiting;
  await engine.call('DELETE', `/containers/${id}?force=1`);
}

function throughput(name: string, count: number, workers: number): Row {
  return {
    name,
    unit: '/s',
    repeat: 3,
    measure: async (engine, { image }) => (1000 * count) / (await timed(() => inParallel(count, workers, () => runOnce(engine, image)))),
  };
}

/** `count` stopped containers to list. */
function stoppedContainers(count: number) {
  return async (engine: Engine, setting: Setting): Promise<string[]> => {
    const made: string[] = [];
    await inParallel(count, 4, async () => made.push(await engine.create(shortLived(setting.image))));
    return made;
  };
}

function requests(name: string, count: number, workers: number, path: (made: readonly string[]) => string, containers: number): Row {
  return {
    name,
    unit: '/s',
    repeat: 3,
    before: stoppedContainers(containers),
    measure: (engine, _setting, made) => requestsASecond(engine.socketPath, path(made), count, workers),
    after: removeAll,
  };
}

export const rows: readonly Row[] = [
  { name: 'run --rm, CLI', unit: 'ms', repeat: 9, measure: (engine, { image }) => timed(() => engine.cli(['run', '--rm', image, 'true'])) },
  {
    name: 'run --rm --network none, CLI',
    unit: 'ms',
    repeat: 7,
    measure: (engine, { image }) => timed(() => engine.cli(['run', '--rm', '--network', 'none', image, 'true'])),
  },
  { name: 'create+start+wait+rm, API', unit: 'ms', repeat: 9, measure: (engine, { image }) => timed(() => runOnce(engine, image)) },
  throughput('create+start+wait+rm, 1 worker', 10, 1),
  throughput('create+start+wait+rm, 8 workers', 32, 8),
  {
    name: 'run -d, CLI',
    unit: 'ms',
    repeat: 7,
    measure: async (engine, { image }) => {
      const name = `bench-${randomUUID()}`;
      const ms = await timed(() => engine.cli(['run', '-d', '--name', name, image, 'sleep', '1000']));
      await engine.call('DELETE', `/containers/${name}?force=1`);
      return ms;
    },
  },
  {
    name: 'rm -f of a running one, CLI',
    unit: 'ms',
    repeat: 7,
    measure: async (engine, setting) => {
      const [id = ''] = await started(engine, setting);
      return timed(() => engine.cli(['rm', '-f', id]));
    },
  },
  {
    name: 'exec true, CLI',
    unit: 'ms',
    repeat: 9,
    before: started,
    measure: (engine, _setting, [id = '']) => timed(() => engine.cli(['exec', id, 'true'])),
    after: removeAll,
  },
  {
    name: 'start, CLI',
    unit: 'ms',
    repeat: 7,
    measure: async (engine, { image }) => {
      const id = await engine.create(sleeper(image));
      const ms = await timed(() => engine.cli(['start', id]));
      await engine.call('DELETE', `/containers/${id}?force=1`);
      return ms;
    },
  },
  {
    name: 'stop -t 0, CLI',
    unit: 'ms',
    repeat: 7,
    measure: async (engine, setting) => {
      const [id = ''] = await started(engine, setting);
      const ms = await timed(() => engine.cli(['stop', '-t', '0', id]));
      await engine.call('DELETE', `/containers/${id}?force=1`);
      return ms;
    },
  },
  requests('list 10 containers, x4', 200, 4, () => '/containers/json?all=1', 10),
  requests('list 200 containers, x1', 60, 1, () => '/containers/json?all=1', 200),
  requests('list 200 containers, x16', 100, 16, () => '/containers/json?all=1', 200),
  requests('inspect, x16', 8000, 16, (made) => `/containers/${made[0]}/json`, 1),
  requests('list images, x16', 4000, 16, () => '/images/json', 0),
  requests('ping, x16', 20_000, 16, () => '/_ping', 0),
  ...imageRows,
  ...containerRows,
  ...buildRows,
  ...networkRows,
  ...idleRows,
];
