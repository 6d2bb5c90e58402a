/** Rows of networks: what joining one adds to a start, published ports, names, and many networks. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connectOutside, waitFor } from '@flotilla/testkit';
import type { Engine } from './engine.ts';
import { hostOf, type Row, removeAll, type Setting } from './row.ts';
import { inParallel, timed } from './statistics.ts';

const network = 'bench';
const port = 18080;
const servedBytes = 200_000_000;
const loadMs = 2_000;
const manyNetworks = 200;
const load = join(import.meta.dirname, 'networkLoad.ts');

const createNetwork = (engine: Engine, name: string, subnet: string): Promise<unknown> =>
  engine.call('POST', '/networks/create', { json: { Name: name, IPAM: { Config: [{ Subnet: subnet }] } } });

function startRow(name: string, host: object, before?: Row['before'], after?: Row['after']): Row {
  return {
    name: `start, ${name}, API`,
    unit: 'ms',
    repeat: 9,
    ...(before && { before }),
    measure: async (engine, { image }) => {
      const id = await engine.create({ Image: image, Cmd: ['sleep', '1000'], ExposedPorts: { '80/tcp': {} }, HostConfig: host });
      const ms = await timed(() => engine.call('POST', `/containers/${id}/start`));
      await engine.call('DELETE', `/containers/${id}?force=1`);
      return ms;
    },
    ...(after && { after }),
  };
}

/** A web server behind a published port, and a place outside of the host: the container and the host's address as the outside sees it. */
async function served(engine: Engine, { image }: Setting): Promise<string[]> {
  const host = hostOf(engine);
  const files = `mkdir /www; head -c ${servedBytes} /dev/zero > /www/file; echo small > /www/small`;
  const id = await engine.create({
    Image: image,
    Cmd: ['sh', '-c', `${files}; exec httpd -f -p 80 -h /www`],
    ExposedPorts: { '80/tcp': {} },
    HostConfig: { PortBindings: { '80/tcp': [{ HostPort: String(port) }] } },
  });
  await engine.call('POST', `/containers/${id}/start`);
  await waitFor(async () => (await host.run('curl', ['-sf', `http://127.0.0.1:${port}/small`])).stdout === 'small\n', {
    timeoutMs: 20_000,
    what: 'the web server in the container',
  });
  return [id];
}

async function download(place: ReturnType<typeof hostOf>, address: string): Promise<number> {
  const { stdout } = await place.mustRun('curl', ['-sfo', '/dev/null', '-w', '%{speed_download}', `http://${address}:${port}/file`]);
  return Number(stdout) / 1e6;
}

/** The outside of an engine's host; it goes with the host. */
const outsides = new WeakMap<Engine, ReturnType<typeof connectOutside>>();
function outsideOf(engine: Engine): ReturnType<typeof connectOutside> {
  const outside = outsides.get(engine) ?? connectOutside(hostOf(engine));
  outsides.set(engine, outside);
  return outside;
}

/** Two containers on a network of their own. */
async function named(engine: Engine, { image }: Setting): Promise<string[]> {
  await createNetwork(engine, network, '10.99.0.0/24');
  const made: string[] = [];
  for (const name of ['bench-asks', 'bench-is-asked-for']) {
    const id = await engine.create({ Image: image, Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: network } }, name);
    await engine.call('POST', `/containers/${id}/start`);
    made.push(id);
  }
  return made;
}

const removeNetwork = (engine: Engine): Promise<unknown> => engine.call('DELETE', `/networks/${network}`);

export const networkRows: readonly Row[] = [
  startRow('no network', { NetworkMode: 'none' }),
  startRow('default bridge', { NetworkMode: 'bridge' }),
  startRow(
    'own network and a published port',
    { NetworkMode: network, PortBindings: { '80/tcp': [{ HostPort: String(port) }] } },
    async (engine) => {
      await createNetwork(engine, network, '10.99.0.0/24');
      return [];
    },
    removeNetwork,
  ),
  {
    name: 'published port, from the host',
    unit: 'MB/s',
    repeat: 3,
    needs: 'host',
    before: served,
    measure: (engine) => download(hostOf(engine), '127.0.0.1'),
    after: removeAll,
  },
  {
    name: 'published port, from outside',
    unit: 'MB/s',
    repeat: 3,
    needs: 'host',
    before: served,
    measure: async (engine) => {
      const { outside, address } = await outsideOf(engine);
      return download(outside, address);
    },
    after: removeAll,
  },
  {
    name: 'connections to a published port, from outside',
    unit: '/s',
    repeat: 3,
    needs: 'host',
    before: served,
    measure: async (engine) => {
      const { outside, address } = await outsideOf(engine);
      const { stdout } = await outside.mustRun(process.execPath, [load, 'connections', address, String(port), String(loadMs)]);
      return Number(stdout);
    },
    after: removeAll,
  },
  {
    name: 'names asked for in a container',
    unit: '/s',
    repeat: 3,
    needs: 'host',
    before: named,
    measure: async (engine, _setting, [id = '']) => {
      const { State } = await engine.json<{ State: { Pid: number } }>('GET', `/containers/${id}/json`);
      const inside = [
        '-t',
        String(State.Pid),
        '--net',
        process.execPath,
        load,
        'names',
        '127.0.0.11',
        'bench-is-asked-for',
        String(loadMs),
      ];
      return Number((await promisify(execFile)('nsenter', inside)).stdout);
    },
    after: async (engine, setting, made) => {
      await removeAll(engine, setting, made);
      await removeNetwork(engine);
    },
  },
  {
    name: `create ${manyNetworks} networks`,
    unit: '/s',
    repeat: 1,
    measure: async (engine) => {
      const all = (work: (index: number) => Promise<unknown>): Promise<void> => inParallel(manyNetworks, 4, work);
      const ms = await timed(() => all((index) => createNetwork(engine, `bench${index}`, `10.98.${index}.0/24`)));
      await all((index) => engine.call('DELETE', `/networks/bench${index}`));
      return (1000 * manyNetworks) / ms;
    },
  },
];
