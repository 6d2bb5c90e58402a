/**
 * `npm run bench -- --only capacity`: what grows with the number of containers on a host, and with the number of hosts on one registry-proxy. The tables of
 * docs/capacity.md.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  buildImage,
  busyboxImage,
  connectOutside,
  createTestHost,
  dockerArchive,
  mustSucceed,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestHost,
} from '@flotilla/testkit';
import { Engine } from './engine.ts';
import { engineProcesses, pssMiB } from './memory.ts';
import type { RegistryJob, RegistryOutcome } from './registryClients.ts';
import type { RowResult } from './report.ts';
import { sleeper } from './row.ts';
import { inParallel, median, timed } from './statistics.ts';

export interface CapacityOptions {
  /** Containers that run when a host is measured, growing. */
  readonly containers: readonly number[];
  /** Hosts that pull at once, growing; each has an address of its own. */
  readonly hosts: readonly number[];
  /** Megabytes of the image that the hosts pull. */
  readonly imageMB: number;
}

const image = 'flotilla-bench-busybox:latest';
const workers = 4;
/** Collectors of garbage have run by then. */
const settleMs = 10_000;
const deploy = join(import.meta.dirname, '../../deploy/flotilla');

class Table {
  readonly rows: (RowResult & { readonly runs: Record<string, number[]> })[] = [];
  private readonly columns: readonly string[];

  constructor(columns: readonly string[]) {
    this.columns = columns;
  }

  add(name: string, unit: string, column: string, figure: number): void {
    let row = this.rows.find((one) => one.row === name);
    if (row === undefined) {
      row = { row: name, unit, runs: Object.fromEntries(this.columns.map((one) => [one, []])), failures: {} };
      this.rows.push(row);
    }
    row.runs[column]?.push(figure);
  }
}

/** One host with more and more containers: a column for each number of them. */
export async function benchContainers({ containers }: CapacityOptions): Promise<RowResult[]> {
  const counts = [0, ...containers];
  const table = new Table(counts.map((count) => `${count} containers`));
  const host = await createTestHost({ name: 'capacity' });
  try {
    await host.sh('mkdir -p /run && mount -t tmpfs tmpfs /run');
    await host.startStack();
    const engine = new Engine('flotilla', host.socketPath, host);
    const small = await dockerArchive([{ image: await busyboxImage(), tags: [image] }]);
    await engine.call('POST', '/images/load?quiet=1', { body: small });
    const ids: string[] = [];
    for (const count of counts) {
      const column = `${count} containers`;
      const missing = count - ids.length;
      if (missing > 0) {
        const ms = await timed(() =>
          inParallel(missing, workers, async () => {
            const id = await engine.create(sleeper(image));
            await engine.call('POST', `/containers/${id}/start`);
            ids.push(id);
          }),
        );
        table.add(`created and started, ${workers} at once, up to here`, '/s', column, (missing * 1000) / ms);
      }
      await pause(settleMs);
      const running = await engine.json<unknown[]>('GET', '/containers/json');
      if (running.length !== count) throw new Error(`${running.length} containers run, not ${count}`);
      await addMemory(table, column, host, engine, ids);
      table.add('list of the running', 'ms', column, await medianOf(engine, '/containers/json'));
      if (ids[0] !== undefined) table.add('inspect', 'ms', column, await medianOf(engine, `/containers/${ids[0]}/json`));
      const runs: number[] = [];
      for (let turn = 0; turn < 5; turn++) runs.push(await timed(() => engine.cli(['run', '--rm', image, 'true'])));
      table.add('run --rm, CLI', 'ms', column, median(runs));
    }
    const ms = await timed(() => inParallel(ids.length, workers, (index) => engine.call('DELETE', `/containers/${ids[index]}?force=1`)));
    table.add(`removed by force, ${workers} at once`, '/s', `${counts.at(-1)} containers`, (ids.length * 1000) / ms);
    engine.close();
    await host.stopStack();
    return table.rows;
  } finally {
    await host.dispose();
  }
}

async function medianOf(engine: Engine, path: string): Promise<number> {
  const runs: number[] = [];
  for (let turn = 0; turn < 15; turn++) runs.push(await timed(() => engine.drain(path)));
  return median(runs);
}

async function addMemory(table: Table, column: string, host: TestHost, engine: Engine, ids: readonly string[]): Promise<void> {
  const all = engineProcesses(host.namespaces.pid);
  const named = new Map((await host.processes()).map(({ pid, service }) => [pid, service]));
  const monitors = all.filter((pid) => commandOf(pid) === 'conmon');
  const supervisor = (JSON.parse(readFileSync(join(host.execRoot, 'supervisor/state.json'), 'utf8')) as { supervisorPid: number })
    .supervisorPid;
  const own = [supervisor, ...named.keys()];
  table.add('PSS of the engine', 'MiB', column, pssMiB(own));
  for (const [pid, service] of named) table.add(`PSS of ${service}`, 'MiB', column, pssMiB([pid]));
  if (ids.length === 0) return;
  const insides = await Promise.all(
    ids.map(async (id) => (await engine.json<{ State: { Pid: number } }>('GET', `/containers/${id}/json`)).State.Pid),
  );
  table.add('PSS of the monitors', 'MiB', column, pssMiB(monitors));
  table.add('PSS of what runs inside', 'MiB', column, pssMiB(insides));
  table.add('processes of the engine and its monitors', '', column, own.length + monitors.length);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** One registry-proxy and more and more hosts that pull an image nobody has asked for yet, and then again: a column for each number of them. */
export async function benchHosts({ hosts, imageMB }: CapacityOptions): Promise<RowResult[]> {
  const table = new Table(hosts.map((count) => `${count} hosts`));
  const clients = await createTestHost({ name: 'hosts' });
  try {
    const { outside, outsideAddress } = await connectOutside(clients);
    const addresses = Array.from({ length: Math.max(...hosts) }, (_, index) => `198.19.${Math.floor(index / 250)}.${1 + (index % 250)}`);
    await clients.sh(addresses.map((address) => `ip addr add ${address}/16 dev eth0`).join('\n'));
    await outside.sh('ip addr add 198.19.255.254/16 dev wire');
    const upstream = await startRegistry({ place: outside, port: 5000 });
    const dataRoot = join(outside.directory, 'registry');
    const listen = ['--listen', `${outsideAddress}:5002`, '--data-root', dataRoot, '--upstream', `docker.io=http://${upstream.address}`];
    const started = await outside.mustRun('sh', [deploy, 'registry', 'up', ...listen]);
    const proxy = Number(/pid (\d+)/.exec(started.stdout)?.[1]);
    for (const count of hosts) {
      const column = `${count} hosts`;
      const repository = `bench/hosts-${count}`;
      const layers = Array.from({ length: 4 }, (_, index) => [
        { path: 'data', content: randomBytesOf((imageMB / 4) * 1e6, `${repository} ${index}`) },
      ]);
      await pushImage(await buildImage({ layers, compression: 'none' }), { address: upstream.address, repository, tag: '1' }, outside);
      const job: RegistryJob = {
        kind: 'pull',
        url: `http://${outsideAddress}:5002`,
        repository,
        clients: count,
        addresses: addresses.slice(0, count),
      };
      for (const how of ['cold', 'warm'] as const) {
        const before = upstream.requests().length;
        const cpuBefore = cpuSeconds(proxy);
        const pull = await pullWatched(clients, job, proxy);
        const fetched = upstream
          .requests()
          .slice(before)
          .filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'));
        table.add(`${how} pull, all done`, 'ms', column, pull.ms);
        table.add(`${how} pull, last host's first byte`, 'ms', column, pull.firstByteMs.at(-1) ?? Number.NaN);
        table.add(`${how} pull, served`, 'MB/s', column, pull.bytes / 1e3 / pull.ms);
        table.add(`${how} pull, from upstream`, 'MB', column, fetched.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6);
        table.add(`${how} pull, CPU time of the proxy`, 's', column, cpuSeconds(proxy) - cpuBefore);
        table.add(`${how} pull, most memory of the proxy`, 'MiB', column, pull.peakMiB);
      }
    }
    await outside.mustRun('sh', [deploy, 'registry', 'down', '--data-root', dataRoot]);
    await upstream.stop();
    return table.rows;
  } finally {
    await clients.dispose();
  }
}

/** The job's outcome, and the most that the proxy was seen to hold meanwhile, MiB of PSS. */
async function pullWatched(clients: TestHost, job: RegistryJob, proxy: number): Promise<RegistryOutcome & { peakMiB: number }> {
  let peakMiB = 0;
  const looking = setInterval(() => {
    peakMiB = Math.max(peakMiB, pssMiB([proxy]));
  }, 200);
  try {
    const done = await clients.run(process.execPath, [join(import.meta.dirname, 'registryClients.ts'), JSON.stringify(job)], {
      timeoutMs: 600_000,
    });
    const outcome = JSON.parse(mustSucceed(done, `pull by ${job.url}`).stdout) as RegistryOutcome;
    return { ...outcome, peakMiB: Math.max(peakMiB, pssMiB([proxy])) };
  } finally {
    clearInterval(looking);
  }
}

/** User and system time of a process so far. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const ticksASecond = 100;
  return (Number(fields[11]) + Number(fields[12])) / ticksASecond;
}
