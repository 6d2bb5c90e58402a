/**
 * `npm run bench -- --only scale`: one stack whose services run as one, two and three replicas in turn. Where the machine has fewer cores than there are
 * processes at work, replicas can add nothing: the figures then tell what they cost.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  busyboxImage,
  busyboxLayer,
  createTestHost,
  mustSucceed,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestHost,
} from '@flotilla/testkit';
import { Engine } from './engine.ts';
import { requestsASecond } from './reader.ts';
import type { RowResult } from './report.ts';
import { shortLived } from './row.ts';
import { inParallel, timed } from './statistics.ts';

export interface ScaleBenchOptions {
  /** Megabytes of each image that is pulled. */
  readonly imageMB: number;
  readonly repeat: number;
}

const services = ['gateway', 'image-service', 'container-service', 'network-volume', 'registry-proxy'];
const replicaCounts = [1, 2, 3] as const;
const clients = 6;
const builds = 12;
const containers = 200;
const lists = 2_000;

const columnOf = (count: number): string => `${count} replica${count === 1 ? '' : 's'}`;

interface Measurement {
  readonly row: string;
  readonly unit: string;
  readonly measure: () => Promise<number>;
}

export async function benchScale(options: ScaleBenchOptions): Promise<{ rows: RowResult[]; versions: Record<string, string> }> {
  const host = await createTestHost({ name: 'scale' });
  try {
    const registry = await startRegistry({ place: host, port: 5000 });
    host.onDispose(() => registry.stop());
    await host.startStack();
    const engine = new Engine('flotilla', host.socketPath, host);
    try {
      const measurements = await prepare(host, engine, registry.address, options);
      const runs = measurements.map(({ row, unit }) => ({
        row,
        unit,
        runs: Object.fromEntries(replicaCounts.map((count) => [columnOf(count), [] as number[]])),
      }));
      for (let turn = 0; turn < options.repeat; turn++) {
        for (const count of replicaCounts) {
          mustSucceed(await host.flotilla('scale', ...services.map((name) => `${name}=${count}`)), 'flotilla scale');
          for (const [index, { row, measure }] of measurements.entries()) {
            console.error(`${row}, ${columnOf(count)}`);
            runs[index]?.runs[columnOf(count)]?.push(await measure());
          }
        }
      }
      const { Version } = await engine.json<{ Version: string }>('GET', '/version');
      return {
        rows: runs.map((result) => ({ ...result, failures: {} })),
        versions: Object.fromEntries(replicaCounts.map((count) => [columnOf(count), `Flotilla ${Version}, ${count} of each service`])),
      };
    } finally {
      engine.close();
      await host.stopStack();
    }
  } finally {
    await host.dispose();
  }
}

/** Makes what is pulled, built and listed. */
async function prepare(host: TestHost, engine: Engine, registry: string, { imageMB }: ScaleBenchOptions): Promise<Measurement[]> {
  await pushImage(await busyboxImage(), { address: registry, repository: 'base', tag: 'latest' }, host);
  const base = `${registry}/base:latest`;
  await engine.cli(['pull', '-q', base]);
  const images = await Promise.all(
    Array.from({ length: clients }, async (_, index) => {
      const layer = [{ path: 'data', content: randomBytesOf(imageMB * 1e6, `scale${index}`) }];
      await pushImage(
        await buildImage({ layers: [busyboxLayer(), layer] }),
        { address: registry, repository: `image${index}`, tag: '1' },
        host,
      );
      return `${registry}/image${index}:1`;
    }),
  );
  const pullAll = (): Promise<void> => inParallel(clients, clients, (index) => engine.cli(['pull', '-q', images[index] ?? '']));
  const removeAll = (): Promise<void> => inParallel(clients, 1, (index) => engine.call('DELETE', `/images/${images[index]}?force=1`));
  // What is measured is the stack, not how fast an upstream fills the cache.
  await pullAll();
  await removeAll();
  const context = join(host.filesDirectory, 'context');
  mkdirSync(context);
  writeFileSync(join(context, 'Dockerfile'), `FROM ${base}\nCOPY Dockerfile /\nRUN cat /Dockerfile > /made\n`);
  await inParallel(containers, 4, () => engine.create(shortLived(base)));
  return [
    {
      row: `pull ${clients} images of ${imageMB} MB at once`,
      unit: 'MB/s',
      measure: async () => {
        const ms = await timed(pullAll);
        await removeAll();
        return (clients * imageMB * 1000) / ms;
      },
    },
    {
      row: `build, ${clients} at once`,
      unit: '/s',
      measure: async () => {
        const build = (index: number): Promise<void> =>
          engine.cli(['build', '-q', '--no-cache', '-t', `scale${index}`, context], { DOCKER_BUILDKIT: '0' });
        const ms = await timed(() => inParallel(builds, clients, build));
        await engine.call('POST', '/build/prune?all=1');
        return (1000 * builds) / ms;
      },
    },
    {
      row: `list ${containers} containers, x16`,
      unit: '/s',
      measure: () => requestsASecond(engine.socketPath, '/containers/json?all=1', lists, 16),
    },
  ];
}

/** What a reader of the figures should know of the machine. */
export function remarkOnCores(cores: number): string | undefined {
  const atWork = services.length;
  if (cores > atWork) return undefined;
  const fewer = `The machine has ${cores} cores for ${atWork} services, Redis, NATS and the clients.`;
  return `${fewer} Where one replica of each keeps them all busy, which was not measured, more replicas can only share what there is.`;
}
