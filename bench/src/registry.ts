/**
 * `npm run bench -- --only registry`: the registry-proxy beside Debian's docker-registry in its proxy mode, both on the loopback of one test host before the
 * same upstream, taking turns. Every cold pull is of an image that nobody has asked for yet.
 */
import { join } from 'node:path';
import {
  buildImage,
  createTestHost,
  mustSucceed,
  pushImage,
  randomBytesOf,
  runCommand,
  startRegistry,
  type TestHost,
  type TestRegistry,
} from '@flotilla/testkit';
import { pssMiB } from './memory.ts';
import type { RegistryJob, RegistryOutcome } from './registryClients.ts';
import type { RowResult } from './report.ts';

interface Peer {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
}

export interface RegistryBenchOptions {
  /** Megabytes of an image, in four layers. */
  readonly imageMB: number;
  readonly repeat: number;
  /** How many pull at once, in each row. */
  readonly clients: readonly number[];
}

const layerCount = 4;
const upstreamPort = 5000;
const deploy = join(import.meta.dirname, '../../deploy/flotilla');

export async function benchRegistry(options: RegistryBenchOptions): Promise<{ rows: RowResult[]; versions: Record<string, string> }> {
  const host = await createTestHost({ name: 'registry' });
  try {
    const upstream = await startRegistry({ place: host, port: upstreamPort });
    const proxyMode = await startRegistry({ place: host, port: 5001, proxyOf: `http://${upstream.address}` });
    const dataRoot = join(host.directory, 'registry');
    const up = [
      'registry',
      'up',
      '--listen',
      '127.0.0.1:5002',
      '--data-root',
      dataRoot,
      '--upstream',
      `docker.io=http://${upstream.address}`,
    ];
    const started = await host.mustRun('sh', [deploy, ...up]);
    const peers: Peer[] = [
      { name: 'flotilla', url: 'http://127.0.0.1:5002', pid: Number(/pid (\d+)/.exec(started.stdout)?.[1]) },
      { name: 'docker-registry', url: 'http://127.0.0.1:5001', pid: proxyMode.process.pid },
    ];
    const bench = new RegistryBench(host, upstream, peers);
    await bench.run(options);
    await host.mustRun('sh', [deploy, 'registry', 'down', '--data-root', dataRoot]);
    await proxyMode.stop();
    await upstream.stop();
    return {
      rows: bench.rows,
      versions: { flotilla: await versionOf('sh', deploy, 'version'), 'docker-registry': await versionOf('docker-registry', '--version') },
    };
  } finally {
    await host.dispose();
  }
}

async function versionOf(command: string, ...args: string[]): Promise<string> {
  return (await runCommand(command, args)).stdout.split('\n', 1)[0]?.trim() ?? '';
}

class RegistryBench {
  readonly rows: RowResult[] = [];
  private readonly host: TestHost;
  private readonly upstream: TestRegistry;
  private readonly peers: readonly Peer[];

  constructor(host: TestHost, upstream: TestRegistry, peers: readonly Peer[]) {
    this.host = host;
    this.upstream = upstream;
    this.peers = peers;
  }

  async run(options: RegistryBenchOptions): Promise<void> {
    this.memory('PSS idle');
    for (const clients of options.clients) {
      for (let turn = 0; turn < options.repeat; turn++) {
        const repository = `bench/pull-${clients}-${turn}`;
        await this.push(repository, options.imageMB);
        for (const peer of this.peers) await this.pull(peer, repository, clients);
      }
    }
    const warm = `bench/pull-${options.clients[0]}-0`;
    for (let turn = 0; turn < options.repeat; turn++) {
      for (const peer of this.peers) {
        const blob = await this.job({ kind: 'blob', url: peer.url, repository: warm, clients: 4, times: 4 });
        this.add('warm blob, 4 clients', 'MB/s', peer, blob.bytes / 1e3 / blob.ms);
        for (const by of ['tag', 'digest'] as const) {
          const requests = 2000;
          const { ms } = await this.job({ kind: 'manifests', url: peer.url, repository: warm, by, requests });
          this.add(`manifest by ${by}, 16 clients`, '/s', peer, (requests * 1000) / ms);
        }
      }
    }
    this.memory('PSS after the load');
  }

  /** Cold, then warm, by so many clients at once. */
  private async pull(peer: Peer, repository: string, clients: number): Promise<void> {
    const job: RegistryJob = { kind: 'pull', url: peer.url, repository, clients };
    const before = this.upstream.requests().length;
    const cold = await this.job(job);
    const upstreamBytes = this.upstream
      .requests()
      .slice(before)
      .filter((each) => each.method === 'GET' && each.path.includes('/blobs/'))
      .reduce((sum, each) => sum + each.bytes, 0);
    const warm = await this.job(job);
    this.add(`cold pull by ${clients}`, 'ms', peer, cold.ms);
    this.add(`cold pull by ${clients}, last client's first byte`, 'ms', peer, cold.firstByteMs.at(-1) ?? Number.NaN);
    this.add(`cold pull by ${clients}, from upstream`, 'MB', peer, upstreamBytes / 1e6);
    this.add(`warm pull by ${clients}`, 'ms', peer, warm.ms);
  }

  private async push(repository: string, imageMB: number): Promise<void> {
    const layers = Array.from({ length: layerCount }, (_, index) => [
      { path: 'data', content: randomBytesOf((imageMB / layerCount) * 1e6, `${repository} ${index}`) },
    ]);
    const image = await buildImage({ layers, compression: 'none' });
    await pushImage(image, { address: this.upstream.address, repository, tag: '1' }, this.host);
  }

  private async job(job: RegistryJob): Promise<RegistryOutcome> {
    const done = await this.host.run(process.execPath, [join(import.meta.dirname, 'registryClients.ts'), JSON.stringify(job)], {
      timeoutMs: 600_000,
    });
    return JSON.parse(mustSucceed(done, `${job.kind} from ${job.url}`).stdout) as RegistryOutcome;
  }

  private memory(row: string): void {
    for (const peer of this.peers) this.add(row, 'MiB', peer, pssMiB([peer.pid]));
  }

  private add(row: string, unit: string, peer: Peer, figure: number): void {
    const known = this.rows.find((each) => each.row === row);
    const runs = (known?.runs ?? {}) as Record<string, number[]>;
    if (known === undefined) {
      process.stderr.write(`${row}\n`);
      this.rows.push({ row, unit, runs, failures: {} });
    }
    runs[peer.name] = [...(runs[peer.name] ?? []), figure];
  }
}
