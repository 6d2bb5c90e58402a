/** image-service as it runs: its own process, real Redis and NATS, a real registry-proxy before real registries. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContainersService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { BuildKitService } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { BuildsService } from '@flotilla/contracts/flotilla/image/v1/builds';
import { DiskService } from '@flotilla/contracts/flotilla/image/v1/disk';
import { ImagesService, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import type { ProgressMessage } from '@flotilla/engine-api';
import { Bus, type Calls, createLogger, Discovery, GrpcServer, Health, serviceCalls } from '@flotilla/service-kit';
import { dialTicket } from '@flotilla/streams';
import { startNats, startRedis, type TestNats, type TestRedis, waitFor } from '@flotilla/testkit';

const engineId = 'test-engine';
const logger = createLogger({ service: 'test', instance: 'test', level: 'silent' });

export interface FakeContainer {
  readonly Id: string;
  readonly ImageID: string;
  readonly State: string;
}

export class Stack {
  readonly root: string;
  readonly images: Calls<typeof ImagesService>;
  readonly snapshots: Calls<typeof SnapshotsService>;
  readonly disk: Calls<typeof DiskService>;
  readonly builds: Calls<typeof BuildsService>;
  readonly buildkit: Calls<typeof BuildKitService>;
  /** What container-service says it has. */
  containers: FakeContainer[] = [];
  private readonly redis: TestRedis;
  private readonly nats: TestNats;
  private readonly bus: Bus;
  private readonly discovery: Discovery;
  private readonly children = new Map<string, { readonly name: string; readonly child: ChildProcess }>();
  private readonly containerServer: GrpcServer;
  private output = '';
  private instances = 0;

  private constructor(root: string, redis: TestRedis, nats: TestNats, bus: Bus) {
    this.root = root;
    this.redis = redis;
    this.nats = nats;
    this.bus = bus;
    this.discovery = new Discovery({ bus });
    this.images = serviceCalls(ImagesService, 'image-service', this.discovery);
    this.snapshots = serviceCalls(SnapshotsService, 'image-service', this.discovery);
    this.disk = serviceCalls(DiskService, 'image-service', this.discovery);
    this.builds = serviceCalls(BuildsService, 'image-service', this.discovery);
    this.buildkit = serviceCalls(BuildKitService, 'image-service', this.discovery);
    this.containerServer = new GrpcServer({ logger, health: new Health() });
  }

  /** @param options.prepare - is given the place of image-service's data before anything is there. */
  static async start(options: { prepare?: (dataRoot: string) => void } = {}): Promise<Stack> {
    const root = mkdtempSync(join(tmpdir(), 'flotilla-images-'));
    const [redis, nats] = await Promise.all([startRedis(), startNats()]);
    const bus = await Bus.connect({ url: nats.url, user: '', password: '', engineId, name: 'test', logger });
    const stack = new Stack(root, redis, nats, bus);
    options.prepare?.(stack.dataRoot);
    await stack.startContainerService();
    await stack.startService('registry-proxy');
    await stack.startService('image-service');
    return stack;
  }

  /** container-service as far as image-service asks it. */
  private async startContainerService(): Promise<void> {
    const refuse = async (): Promise<never> => {
      throw new Error('not asked in these tests');
    };
    const handlers = Object.fromEntries(Object.keys(ContainersService).map((name) => [name, refuse]));
    const list = async (): Promise<unknown> => ({ containersJson: Buffer.from(JSON.stringify(this.containers)), ages: [] });
    this.containerServer.add(ContainersService, { ...handlers, list } as unknown as Parameters<
      typeof this.containerServer.add<typeof ContainersService>
    >[1]);
    const address = `unix:${join(this.root, 'containers.sock')}`;
    await this.containerServer.listen(address);
    this.discovery.announce(
      { service: 'container-service', instance: 'test', pid: process.pid, grpcAddress: address, httpAddress: '', version: '0' },
      new Health(),
    );
  }

  get dataRoot(): string {
    return join(this.root, 'data', 'image-service');
  }

  get log(): string {
    return this.output;
  }

  /** The processes of a service that live. */
  running(name: 'registry-proxy' | 'image-service'): string {
    const alive = [...this.children.values()].filter(
      ({ name: of, child }) => of === name && child.exitCode === null && child.signalCode === null,
    );
    return alive.map(({ child }) => child.pid).join(' ');
  }

  /** @returns the instance's name. */
  async startService(name: 'registry-proxy' | 'image-service', env: Record<string, string> = {}): Promise<string> {
    this.instances++;
    const instance = `i${this.instances}`;
    const sockets = join(this.root, 'sockets', name);
    mkdirSync(sockets, { recursive: true });
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', process.execPath, join(import.meta.dirname, `../../${name}/src/main.ts`)],
      {
        env: {
          PATH: process.env.PATH,
          FLOTILLA_DATA_ROOT: join(this.root, 'data'),
          FLOTILLA_EXEC_ROOT: join(this.root, 'exec'),
          FLOTILLA_ENGINE_ID: engineId,
          FLOTILLA_INSTANCE: instance,
          FLOTILLA_REDIS_URL: this.redis.url,
          FLOTILLA_NATS_URL: this.nats.url,
          FLOTILLA_GRPC_ADDRESS: `unix:${sockets}/${instance}.grpc.sock`,
          FLOTILLA_STREAM_ADDRESS: `unix:${sockets}/${instance}.stream.sock`,
          FLOTILLA_HTTP_ADDRESS: name === 'registry-proxy' ? `unix:${sockets}/${instance}.http.sock` : '',
          FLOTILLA_LOG_LEVEL: 'debug',
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.children.set(instance, { name, child });
    let own = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        own += chunk.toString();
        this.output += chunk.toString();
      });
    }
    await waitFor(
      () => {
        if (child.exitCode !== null) throw new Error(`${name} ended: ${own.slice(-3000)}`);
        return own.includes('"ready"');
      },
      { what: name, timeoutMs: 45_000 },
    );
    await waitFor(() => this.discovery.instances(name).some((beat) => beat.instance === instance), { what: `${name} in discovery` });
    return instance;
  }

  /** To every instance. */
  signal(name: 'registry-proxy' | 'image-service', signal: NodeJS.Signals): void {
    for (const { name: service, child } of this.children.values()) if (service === name) child.kill(signal);
  }

  /** kill -9 of every instance, as a crash; resolves when discovery has noticed. */
  async crash(name: 'registry-proxy' | 'image-service'): Promise<void> {
    await this.kill(name);
    await waitFor(() => this.discovery.instances(name).length === 0, { what: `${name} gone from discovery`, timeoutMs: 10_000 });
  }

  /** kill -9 of every instance. */
  async kill(name: 'registry-proxy' | 'image-service'): Promise<void> {
    for (const [instance, { name: service, child }] of this.children) {
      if (service !== name) continue;
      this.children.delete(instance);
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await ended;
    }
  }

  /** Pulls and collects the lines. */
  async pull(
    reference: string,
    options: { tag?: string; platform?: string; allTags?: boolean; signal?: AbortSignal } = {},
  ): Promise<ProgressMessage[]> {
    const request = {
      reference,
      tag: options.tag ?? '',
      allTags: options.allTags ?? false,
      platform: options.platform ?? '',
      registryAuth: '',
    };
    const lines: ProgressMessage[] = [];
    for await (const { json } of this.images.pull(request, { signal: options.signal ?? AbortSignal.timeout(50_000) }))
      lines.push(parse(json));
    return lines;
  }

  async push(reference: string, tag: string): Promise<ProgressMessage[]> {
    const lines: ProgressMessage[] = [];
    const stream = this.images.push({ reference, tag, platform: '', registryAuth: '' }, { signal: AbortSignal.timeout(50_000) });
    for await (const { json } of stream) lines.push(parse(json));
    return lines;
  }

  async load(archive: Buffer, quiet = true): Promise<ProgressMessage[]> {
    const { ticket } = await this.images.load({ quiet, platform: '' });
    return this.upload(ticket, archive);
  }

  async import(archive: Buffer, repository: string, changes: string[] = []): Promise<ProgressMessage[]> {
    const { ticket } = await this.images.import({ repository, tag: '', message: '', changes, platform: '' });
    return this.upload(ticket, archive);
  }

  /** Builds a context that is a tar, without steps that run commands. @returns the lines after the verdict; a refusal is the one line. */
  async build(archive: Buffer, options: { tags?: string[]; noCache?: boolean } = {}): Promise<ProgressMessage[]> {
    const { ticket } = await this.builds.build({
      dockerfile: '',
      tags: options.tags ?? [],
      remote: '',
      quiet: false,
      noCache: options.noCache ?? false,
      cacheFrom: [],
      pull: false,
      remove: true,
      forceRemove: true,
      buildArgsJson: Buffer.alloc(0),
      labels: {},
      target: '',
      platform: '',
      hostConfigJson: Buffer.alloc(0),
      registryConfig: '',
      buildId: '',
      aux: false,
    });
    if (ticket === undefined) throw new Error('no ticket');
    const stream = await dialTicket(ticket);
    stream.on('error', () => undefined);
    stream.end(archive);
    const [verdict, ...rest] = await wholeLines(stream);
    const { message } = verdict as { message?: string };
    return message === undefined ? rest : [{ error: message, errorDetail: { message } }];
  }

  /** What `doctor --disk` finds, each as `kind name: detail`. */
  async findings(): Promise<string[]> {
    const found: string[] = [];
    for await (const { kind, name, detail } of this.disk.check({ repair: false }, { signal: AbortSignal.timeout(50_000) }))
      if (kind !== 'summary') found.push(`${kind} ${name}: ${detail}`);
    return found;
  }

  private async upload(ticket: { address: string; token: string } | undefined, archive: Buffer): Promise<ProgressMessage[]> {
    if (ticket === undefined) throw new Error('no ticket');
    const stream = await dialTicket(ticket);
    stream.on('error', () => undefined);
    stream.end(archive);
    return wholeLines(stream);
  }

  async save(...images: string[]): Promise<Buffer> {
    const { ticket } = await this.images.save({ images, platform: '' });
    if (ticket === undefined) throw new Error('no ticket');
    const stream = await dialTicket(ticket);
    const chunks: Buffer[] = [];
    for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async inspect<T = Record<string, unknown>>(image: string): Promise<T> {
    const { imageJson } = await this.images.inspect({ image, manifests: false, platform: '' });
    return parse(imageJson);
  }

  async list(filters: Record<string, string[]> = {}, all = false): Promise<{ Id: string; RepoTags: string[]; RepoDigests: string[] }[]> {
    const entries = Object.entries(filters).map(([name, values]) => [name, { values }]);
    const request = { all, filters: Object.fromEntries(entries), sharedSize: false, digests: false, manifests: false };
    return parse((await this.images.list(request)).imagesJson);
  }

  async remove(image: string, options: { force?: boolean; noPrune?: boolean } = {}): Promise<{ Untagged?: string; Deleted?: string }[]> {
    const { itemsJson } = await this.images.remove({
      image,
      force: options.force ?? false,
      noPrune: options.noPrune ?? false,
      platforms: [],
    });
    return parse(itemsJson);
  }

  /** Removes every image and snapshot, and forgets the build cache. */
  async clear(): Promise<void> {
    this.containers = [];
    await this.snapshots.retain({ keys: [] });
    for (const { Id } of await this.list({}, true)) await this.remove(Id, { force: true }).catch(() => undefined);
    await this.builds.prune({ all: true, filters: {}, keepStorage: 0n, maxUsed: 0n, minFree: 0n });
  }

  async stop(): Promise<void> {
    for (const { child } of this.children.values()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      await ended;
    }
    await this.containerServer.shutdown(100);
    await this.discovery.stop();
    await this.bus.close();
    await this.redis.stop();
    await this.nats.stop();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** The lines of an answer. @throws when its last word is missing. */
async function wholeLines(stream: AsyncIterable<Buffer>): Promise<ProgressMessage[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  if (!text.endsWith('\0')) throw new Error(`the answer was cut: ${text.slice(-500)}`);
  const lines = text.slice(0, -1).split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as ProgressMessage);
}

export function parse<T>(json: Uint8Array): T {
  return JSON.parse(Buffer.from(json).toString('utf8')) as T;
}
