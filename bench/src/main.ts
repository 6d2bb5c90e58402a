/**
 * `npm run bench -- [SOCKET…]`: measures Docker-compatible engines side by side. With sockets it measures those; without, it starts Flotilla, dockerd and
 * podman (those that are installed) each in a test host of its own. Engines alternate within every repetition, so that a noisy moment hits all.
 * With `--only registry` it is the registry-proxy and docker-registry that are measured (registry.ts), with `--only capacity` what grows with containers and
 * hosts (capacity.ts), with `--only scale` a stack of more and more replicas (scale.ts).
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { buildImage, busyboxImage, busyboxLayer, disposeTestHosts, dockerArchive, randomBytesOf } from '@flotilla/testkit';
import { Command, Option } from 'commander';
import { benchContainers, benchHosts } from './capacity.ts';
import { Engine } from './engine.ts';
import { type EngineKind, engineKinds, type HostedEngine, startHosted, usualEngines } from './hosts.ts';
import { engineProcesses, pssMiB } from './memory.ts';
import { benchRegistry } from './registry.ts';
import { describeMachine, type Report, type RowResult, table } from './report.ts';
import type { Row, Setting } from './row.ts';
import { rows } from './rows.ts';
import { benchScale, remarkOnCores } from './scale.ts';

/** Engines with collectors of garbage have given back by then what they do not need. */
const collectedMs = 20_000;

const image = 'flotilla-bench-busybox:latest';
const largeTag = 'flotilla-bench-large:latest';

interface Options {
  readonly engines: string;
  readonly rows?: string;
  readonly json?: string;
  readonly pull?: string;
  readonly largeMb: string;
  readonly largeLayers: string;
  readonly only: string;
  readonly repeat: string;
  readonly containers: string;
  readonly hosts: string;
}

async function main(sockets: readonly string[], options: Options): Promise<void> {
  const wanted = rows.filter((row) => options.rows === undefined || options.rows.split(',').some((part) => row.name.includes(part)));
  const layerCount = Number(options.largeLayers);
  const half = (Number(options.largeMb) * 1e6) / layerCount / 2;
  // Half random and half text: real layers compress to about half.
  const layers = Array.from({ length: layerCount }, (_, index) => [
    {
      path: `data-${index}`,
      content: Buffer.concat([randomBytesOf(half, `bench${index}`), Buffer.alloc(half, 'flotilla ')]),
    },
  ]);
  const large = await buildImage({ layers: [busyboxLayer(), ...layers], config: { Cmd: ['sh'] } });
  const archive = await dockerArchive([{ image: large, tags: [largeTag] }]);
  const small = await dockerArchive([{ image: await busyboxImage(), tags: [image] }]);

  const hosted: HostedEngine[] = [];
  const engines: Engine[] = sockets.map((path, index) => new Engine(`${basename(path, '.sock')}${index}`, path));
  try {
    if (sockets.length === 0) {
      for (const kind of options.engines.split(',')) {
        if (!engineKinds.includes(kind as EngineKind)) throw new Error(`unknown engine ${kind}: one of ${engineKinds.join(', ')}`);
        console.error(`starting ${kind}`);
        hosted.push(await startHosted(kind as EngineKind, large));
      }
      engines.push(...hosted.map((one) => one.engine));
    }
    const pullReference = options.pull ?? (hosted.length > 0 ? '127.0.0.1:5000/large:latest' : undefined);
    const setting: Setting = {
      image,
      large: { archive, bytes: archive.length, tag: largeTag },
      ...(pullReference === undefined ? {} : { pullReference }),
    };
    const versions: Record<string, string> = {};
    for (const engine of engines) {
      const version = await engine.json<{ Version: string; Platform?: { Name?: string } }>('GET', '/version');
      versions[engine.name] = `${version.Platform?.Name ?? ''} ${version.Version}`.trim();
      await engine.call('POST', '/images/load?quiet=1', { body: small });
    }
    const results: RowResult[] = [];
    if (hosted.length > 0) {
      await pause(collectedMs);
      results.push(await memoryRow('PSS idle', hosted));
    }
    for (const row of wanted) {
      if (row.needs === 'registry' && setting.pullReference === undefined) {
        console.error(`${row.name}: left out, no --pull REFERENCE given`);
        continue;
      }
      if (row.needs === 'host' && hosted.length === 0) {
        console.error(`${row.name}: left out, for the engines were not started here`);
        continue;
      }
      console.error(row.name);
      results.push(await measure(row, engines, setting));
    }
    if (hosted.length > 0 && options.rows === undefined) results.push(...(await memoryOfContainers(hosted)));
    writeReport(versions, results, options);
  } finally {
    for (const engine of engines) engine.close();
    for (const one of hosted) await one.stop().catch((error: Error) => console.error(`stopping ${one.engine.name}: ${error.message}`));
  }
}

/** The registry-proxy beside docker-registry in its proxy mode. */
async function registryMain(options: Options): Promise<void> {
  const { rows: results, versions } = await benchRegistry({
    imageMB: Number(options.largeMb),
    repeat: Number(options.repeat),
    clients: [1, 10, 50],
  });
  writeReport(versions, results, options, '-registry');
}

/** What grows with the containers of a host, and with the hosts of a registry-proxy. */
async function capacityMain(options: Options): Promise<void> {
  const numbers = (list: string): number[] =>
    list
      .split(',')
      .filter((word) => word !== '')
      .map(Number);
  const sizes = { containers: numbers(options.containers), hosts: numbers(options.hosts), imageMB: Number(options.largeMb) };
  const named = (suffix: string): Options => ({
    ...options,
    ...(options.json === undefined ? {} : { json: options.json.replace('.json', `${suffix}.json`) }),
  });
  if (sizes.containers.length > 0) writeReport({}, await benchContainers(sizes), named('-containers'), '-containers', 'sizes');
  if (sizes.hosts.length > 0) writeReport({}, await benchHosts(sizes), named('-hosts'), '-hosts', 'sizes');
}

/** A stack with one, two and three replicas of every service. */
async function scaleMain(options: Options): Promise<void> {
  const { rows: results, versions } = await benchScale({ imageMB: Number(options.largeMb) / 10, repeat: Number(options.repeat) });
  writeReport(versions, results, options, '-scale', 'engines', remarkOnCores(describeMachine().cores));
}

/** Prints the table and writes it beside the raw figures. */
function writeReport(
  engines: Record<string, string>,
  results: readonly RowResult[],
  options: Options,
  suffix = '',
  columns: 'engines' | 'sizes' = 'engines',
  remark?: string,
): void {
  const report: Report = {
    date: new Date().toISOString(),
    commit: execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim(),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
    machine: describeMachine(),
    engines,
    rows: results,
    ...(remark === undefined ? {} : { remark }),
  };
  console.log(table(report, columns));
  if (remark !== undefined) console.log(`\n${remark}`);
  for (const row of results) {
    for (const [engine, failure] of Object.entries(row.failures)) console.log(`\n${row.row}, ${engine}: ${failure}`);
  }
  const file = options.json ?? join(import.meta.dirname, '../results', `${report.date.slice(0, 10)}-${report.commit}${suffix}.json`);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
  const head = `${report.date} ${report.commit}\n\n${JSON.stringify(report.machine)}\n\n${JSON.stringify(engines)}`;
  const tail = remark === undefined ? '' : `\n${remark}\n`;
  writeFileSync(file.replace(/\.json$/, '.md'), `${head}\n\n${table(report, columns)}\n${tail}`);
  console.error(`written to ${file}`);
}

/** All repetitions of a row, engines alternating; an engine that fails is left out of the rest of the row. */
async function measure(row: Row, engines: readonly Engine[], setting: Setting): Promise<RowResult> {
  const runs: Record<string, number[]> = {};
  const failures: Record<string, string> = {};
  const made: Record<string, string[]> = {};
  const attempt = async (engine: Engine, work: () => Promise<unknown>): Promise<void> => {
    if (failures[engine.name] !== undefined) return;
    try {
      await work();
    } catch (error) {
      failures[engine.name] = error instanceof Error ? error.message : String(error);
    }
  };
  for (const engine of engines) {
    runs[engine.name] = [];
    await attempt(engine, async () => {
      made[engine.name] = (await row.before?.(engine, setting)) ?? [];
    });
  }
  for (let turn = 0; turn < row.repeat; turn++) {
    for (const engine of engines) {
      await attempt(engine, async () => {
        runs[engine.name]?.push(await row.measure(engine, setting, made[engine.name] ?? []));
      });
    }
  }
  for (const engine of engines) await attempt(engine, async () => row.after?.(engine, setting, made[engine.name] ?? []));
  return { row: row.name, unit: row.unit, runs, failures };
}

async function memoryRow(name: string, hosted: readonly HostedEngine[]): Promise<RowResult> {
  const runs: Record<string, number[]> = {};
  for (const { engine, pid, registry } of hosted) {
    const own = engineProcesses(pid).filter((candidate) => candidate !== pid && candidate !== registry.process.pid);
    runs[engine.name] = [pssMiB(own)];
  }
  return { row: name, unit: 'MiB', runs, failures: {} };
}

/** PSS after the load of all rows, and what each of twenty running containers adds. */
async function memoryOfContainers(hosted: readonly HostedEngine[]): Promise<RowResult[]> {
  const count = 20;
  await pause(collectedMs);
  const after = await memoryRow('PSS after the load', hosted);
  const made = new Map<Engine, string[]>();
  for (const { engine } of hosted) {
    const ids: string[] = [];
    for (let index = 0; index < count; index++) {
      const id = await engine.create({ Image: image, Cmd: ['sleep', '1000'] });
      ids.push(id);
      await engine.call('POST', `/containers/${id}/start`);
    }
    made.set(engine, ids);
  }
  await pause(collectedMs);
  const running = await memoryRow(`PSS with ${count} running`, hosted);
  const each: Record<string, number[]> = {};
  for (const { engine } of hosted) {
    each[engine.name] = [((running.runs[engine.name]?.[0] ?? 0) - (after.runs[engine.name]?.[0] ?? 0)) / count];
    for (const id of made.get(engine) ?? []) await engine.call('DELETE', `/containers/${id}?force=1`);
  }
  return [after, running, { row: 'PSS a running container', unit: 'MiB', runs: each, failures: {} }];
}

// An interrupted run leaves no engine, no cgroup and no folder behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void disposeTestHosts().finally(() => process.exit(128 + constants.signals[signal])));
}

await new Command('bench')
  .argument('[sockets...]', 'sockets of running engines; without any, engines are started')
  .option('--engines <kinds>', 'engines to start, the first is compared with the others', usualEngines.join(','))
  .option('--rows <parts>', 'only rows whose name contains one of these, comma-separated')
  .option('--json <file>', 'where to write the raw figures')
  .option('--pull <reference>', 'an image in a registry every engine reaches, for the pull row')
  .option('--large-mb <size>', 'size of the image for load, save, push and pull', '200')
  .option('--large-layers <count>', 'its layers', '5')
  .addOption(new Option('--only <part>', 'what to measure').choices(['engines', 'registry', 'capacity', 'scale']).default('engines'))
  .option('--repeat <times>', 'how often each row of the registry, or of a stack that is scaled, is measured', '3')
  .option('--containers <counts>', 'containers that run when a host is measured, growing', '100,250,500,1000')
  .option('--hosts <counts>', 'hosts that pull at once from one registry-proxy, growing', '1,10,25,50')
  .action((sockets: string[], options: Options) => {
    if (options.only === 'registry') return registryMain(options);
    if (options.only === 'scale') return scaleMain(options);
    return options.only === 'capacity' ? capacityMain(options) : main(sockets, options);
  })
  .parseAsync();
