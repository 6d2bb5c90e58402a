/** Rows of what containers are asked beside their lives: logs, copies, stats, execs, many starts and long lists. */
import { buildTar } from '@flotilla/testkit';
import type { Engine } from './engine.ts';
import { requestsASecond } from './reader.ts';
import { type Row, removeAll, type Setting, shortLived, sleeper, started } from './row.ts';
import { inParallel, timed } from './statistics.ts';

const logBytes = 200_000_000;
const copyBytes = 100_000_000;
const startsAtOnce = 50;
const listed = { created: 400, running: 100 };

const copied = (): Promise<Buffer> => buildTar([{ path: 'copied', content: Buffer.alloc(copyBytes, 'flotilla') }]);

/** A container whose log holds `logBytes` of lines of 100 characters. */
async function logged(engine: Engine, { image }: Setting): Promise<string[]> {
  const line = '0123456789'.repeat(10).slice(0, 99);
  const id = await engine.create({
    Image: image,
    Cmd: ['sh', '-c', `yes ${line} | head -c ${logBytes}`],
    HostConfig: { NetworkMode: 'none', LogConfig: { Type: 'json-file', Config: { 'max-size': '2g' } } },
  });
  const waiting = engine.call('POST', `/containers/${id}/wait?condition=next-exit`);
  await engine.call('POST', `/containers/${id}/start`);
  await waiting;
  return [id];
}

async function runExec(engine: Engine, id: string): Promise<void> {
  const { Id } = await engine.json<{ Id: string }>('POST', `/containers/${id}/exec`, { Cmd: ['true'], AttachStdout: true });
  await engine.call('POST', `/exec/${Id}/start`, { json: { Detach: false, Tty: false } });
}

/** Stopped and running containers to list. */
async function manyContainers(engine: Engine, { image }: Setting): Promise<string[]> {
  const made: string[] = [];
  await inParallel(listed.created, 8, async () => made.push(await engine.create(shortLived(image))));
  await inParallel(listed.running, 8, async () => {
    const id = await engine.create({ ...sleeper(image), HostConfig: { NetworkMode: 'none' } });
    made.push(id);
    await engine.call('POST', `/containers/${id}/start`);
  });
  return made;
}

export const containerRows: readonly Row[] = [
  {
    name: 'logs 200 MB, API',
    unit: 'MB/s',
    repeat: 3,
    before: logged,
    measure: async (engine, _setting, [id = '']) => {
      let bytes = 0;
      const ms = await timed(async () => {
        bytes = await engine.drain(`/containers/${id}/logs?stdout=1`);
      });
      if (bytes < logBytes) throw new Error(`${engine.name}: logs gave only ${bytes} bytes`);
      return bytes / 1000 / ms;
    },
    after: removeAll,
  },
  {
    name: 'logs --tail 10 of 200 MB, API',
    unit: 'ms',
    repeat: 5,
    before: logged,
    measure: (engine, _setting, [id = '']) => timed(() => engine.drain(`/containers/${id}/logs?stdout=1&tail=10`)),
    after: removeAll,
  },
  {
    name: 'cp 100 MB in, API',
    unit: 'MB/s',
    repeat: 3,
    before: started,
    measure: async (engine, _setting, [id = '']) => {
      const body = await copied();
      return copyBytes / 1000 / (await timed(() => engine.call('PUT', `/containers/${id}/archive?path=/`, { body })));
    },
    after: removeAll,
  },
  {
    name: 'cp 100 MB out, API',
    unit: 'MB/s',
    repeat: 3,
    before: async (engine, setting) => {
      const made = await started(engine, setting);
      await engine.call('PUT', `/containers/${made[0]}/archive?path=/`, { body: await copied() });
      return made;
    },
    measure: async (engine, _setting, [id = '']) =>
      copyBytes / 1000 / (await timed(() => engine.drain(`/containers/${id}/archive?path=/copied`))),
    after: removeAll,
  },
  {
    name: 'stats one-shot, x8',
    unit: '/s',
    repeat: 3,
    before: started,
    measure: async (engine, _setting, [id = '']) => {
      const count = 200;
      const path = `/containers/${id}/stats?stream=0&one-shot=1`;
      return (1000 * count) / (await timed(() => inParallel(count, 8, () => engine.call('GET', path))));
    },
    after: removeAll,
  },
  {
    name: 'exec true, API',
    unit: 'ms',
    repeat: 9,
    before: started,
    measure: (engine, _setting, [id = '']) => timed(() => runExec(engine, id)),
    after: removeAll,
  },
  {
    name: 'exec true, 8 workers',
    unit: '/s',
    repeat: 3,
    before: started,
    measure: async (engine, _setting, [id = '']) => (1000 * 40) / (await timed(() => inParallel(40, 8, () => runExec(engine, id)))),
    after: removeAll,
  },
  {
    name: `start ${startsAtOnce} at once, API`,
    unit: '/s',
    repeat: 2,
    measure: async (engine, setting) => {
      const made: string[] = [];
      await inParallel(startsAtOnce, 4, async () => made.push(await engine.create(sleeper(setting.image))));
      const ms = await timed(() =>
        inParallel(made.length, made.length, (index) => engine.call('POST', `/containers/${made[index]}/start`)),
      );
      await removeAll(engine, setting, made);
      return (1000 * made.length) / ms;
    },
  },
  {
    name: `list ${listed.created + listed.running} containers, ${listed.running} running, x4`,
    unit: '/s',
    repeat: 3,
    before: manyContainers,
    measure: (engine) => requestsASecond(engine.socketPath, '/containers/json?all=1', 100, 4),
    after: removeAll,
  },
];
