/** container-service with real Redis, NATS, conmon and runtimes, between fakes of image-service and network-volume. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContainersService, ExecsService, WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { ImagesService, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import { SandboxesService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import type { ContainerInspect } from '@flotilla/engine-api';
import { NotFound, Unavailable } from '@flotilla/errors';
import { Bus, type Calls, createLogger, Discovery, type Handlers, plainSettings, serviceCalls, startService } from '@flotilla/service-kit';
import { dialTicket, type Ticket } from '@flotilla/streams';
import { umount } from '@flotilla/syscalls';
import { startNats, startRedis } from '@flotilla/testkit';
import { Cgroups, type Group, Hierarchy } from '../src/cgroups/index.ts';

export interface Stack {
  readonly directory: string;
  readonly execRoot: string;
  /** a file that the runtime `slow` makes when it begins to start a container. */
  readonly slowRuntimeBegan: string;
  groupOf(container: string): Group;
  readonly containers: Calls<typeof ContainersService>;
  readonly execs: Calls<typeof ExecsService>;
  /** what the fakes were asked to do, in order. */
  readonly asked: string[];
  /** what happened, in order and without doubles. */
  readonly events: readonly Event[];
  readonly env: NodeJS.ProcessEnv;
  service: ServiceProcess;
  /** Kills container-service without a word, runs `meanwhile`, and starts it again on the same records. */
  crash(meanwhile?: () => Promise<void>): Promise<void>;
  /** Another instance of container-service beside it. */
  startAnother(): Promise<ServiceProcess>;
  stop(): Promise<void>;
}

const busyboxCommands = [
  'sh',
  'ls',
  'cat',
  'echo',
  'true',
  'false',
  'sleep',
  'id',
  'env',
  'pwd',
  'stty',
  'seq',
  'head',
  'dd',
  'kill',
  'hostname',
  'wc',
  'touch',
  'rm',
  'test',
];
/** Its volumes are taken, and who asked for one does not hear it. */
export const volumeDriverOfLostAnswers = 'lost';
export const imageId = `sha256:${'ab'.repeat(32)}`;

function makeImage(directory: string): string {
  const root = join(directory, 'layer');
  for (const path of ['bin', 'proc', 'sys', 'dev', 'tmp', 'etc', 'data']) mkdirSync(join(root, path), { recursive: true });
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const command of busyboxCommands) symlinkSync('busybox', join(root, 'bin', command));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnobody:x:65534:\n');
  writeFileSync(join(root, 'etc/plain'), 'not executable\n', { mode: 0o644 });
  writeFileSync(join(root, 'data/seed'), 'seed\n');
  return root;
}

/** An OCI runtime that tells when it was called to start a container, and takes its time then: by name `slow`. */
function makeSlowRuntime(directory: string): { path: string; began: string } {
  const path = join(directory, 'slow');
  const began = `${path}.began`;
  writeFileSync(path, `#!/bin/sh\ncase "$*" in *--detach*) touch ${began}; sleep 0.5;; esac\nexec crun "$@"\n`, { mode: 0o755 });
  return { path, began };
}

function imageHandlers(asked: string[]): Handlers<typeof ImagesService> {
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin', 'FROM_IMAGE=yes'], Cmd: ['sh'], Labels: { 'image.label': '1' } },
    rootfs: { type: 'layers', diff_ids: [`sha256:${'cd'.repeat(32)}`] },
  };
  return {
    resolve: async ({ image }: { image: string }) => {
      if (image !== 'busybox' && image !== imageId) throw new NotFound(`No such image: ${image}:latest`);
      return {
        id: imageId,
        configJson: Buffer.from(JSON.stringify(config)),
        platform: '',
        manifestDescriptorJson: Buffer.alloc(0),
        descendantIds: [],
      };
    },
    commit: async ({ snapshotKey }: { snapshotKey: string }) => {
      asked.push(`commit ${snapshotKey}`);
      return { id: `sha256:${'ef'.repeat(32)}` };
    },
  } as unknown as Handlers<typeof ImagesService>;
}

function snapshotHandlers(directory: string, layer: string, asked: string[]): Handlers<typeof SnapshotsService> {
  const mountsOf = (key: string) => {
    const base = join(directory, 'snapshots', key);
    return {
      lowerDirs: [layer],
      upperDir: join(base, 'upper'),
      workDir: join(base, 'work'),
      mergedDir: join(base, 'merged'),
      baseDir: base,
    };
  };
  return {
    prepare: async ({ key }) => {
      const mounts = mountsOf(key);
      for (const path of [mounts.upperDir, mounts.workDir, mounts.mergedDir]) mkdirSync(path, { recursive: true });
      return { mounts };
    },
    mounts: async ({ key }) => ({ mounts: mountsOf(key) }),
    remove: async ({ key }) => {
      asked.push(`snapshot removed ${key}`);
      rmSync(join(directory, 'snapshots', key), { recursive: true, force: true });
      return {};
    },
    usage: async () => ({ sizeRw: 10n, sizeRootFs: 1000n }),
    retain: async ({ keys }) => {
      asked.push(`snapshots retained ${keys.length}`);
      return { removed: [] };
    },
  };
}

function sandboxHandlers(asked: string[]): Handlers<typeof SandboxesService> {
  const none = Buffer.alloc(0);
  return {
    check: async () => ({ warnings: [] }),
    prepare: async ({ spec }) => {
      asked.push(`sandbox prepared ${spec?.containerId}`);
      return { netnsPath: '', hostnamePath: '', hostsPath: '', resolvConfPath: '', networkSettingsJson: none };
    },
    release: async ({ containerId, remove }) => {
      asked.push(`sandbox ${remove ? 'removed' : 'released'} ${containerId}`);
      return { networkSettingsJson: Buffer.from('{"Networks":{},"Ports":{}}') };
    },
    connect: async ({ network }) => ({ networkSettingsJson: none, networkName: network }),
    disconnect: async ({ network }) => ({ networkSettingsJson: none, networkName: network }),
    rename: async () => ({}),
    retain: async () => ({ released: [] }),
  };
}

function volumeHandlers(directory: string, asked: string[]): Handlers<typeof VolumesService> {
  const place = (name: string): string => join(directory, 'volumes', name, '_data');
  return {
    acquire: async ({ name, driver }: { name: string; driver: string }) => {
      mkdirSync(place(name), { recursive: true });
      if (driver === volumeDriverOfLostAnswers) throw new Unavailable('network-volume went away before it answered');
      return { name, driver: 'local', mountpoint: place(name), created: true };
    },
    release: async ({ name, removeAnonymous }: { name: string; removeAnonymous: boolean }) => {
      asked.push(`volume released ${name} ${removeAnonymous}`);
      return {};
    },
    mount: async ({ name }: { name: string }) => ({ path: place(name) }),
    unmount: async () => ({}),
    populate: async () => ({ copied: false }),
    retain: async () => ({}),
    listUses: async () => ({ uses: [] }),
  } as unknown as Handlers<typeof VolumesService>;
}

/** container-service as the supervisor runs it: a process of its own. */
export interface ServiceProcess {
  readonly pid: number;
  end(signal: NodeJS.Signals): Promise<void>;
}

async function startProcess(env: NodeJS.ProcessEnv): Promise<ServiceProcess> {
  const main = join(import.meta.dirname, '../src/main.ts');
  const child = spawn(process.execPath, [...(process.env.TEST_NODE_ARGS ?? '').split(' ').filter(Boolean), main], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-20_000);
      if (process.env.TEST_LOG_LEVEL !== undefined) process.stderr.write(chunk);
      if (log.includes('"ready"')) resolve();
    });
    child.once('exit', () => reject(new Error(`container-service did not start: ${log}`)));
  });
  return {
    pid: child.pid ?? 0,
    async end(signal) {
      child.kill(signal);
      await exited;
    },
  };
}

export async function startStack(): Promise<Stack> {
  const directory = mkdtempSync(join(tmpdir(), 'container-service-'));
  // A tmpfs, as /run is.
  const execRoot = mkdtempSync('/dev/shm/container-service-');
  const layer = makeImage(directory);
  const slow = makeSlowRuntime(directory);
  const [redis, nats] = await Promise.all([startRedis(), startNats()]);
  const asked: string[] = [];
  const engineId = 'test-engine';
  const cgroupParent = `/flotilla-test-${process.pid}`;
  const envOf = (instance: string): NodeJS.ProcessEnv => ({
    FLOTILLA_DATA_ROOT: join(directory, 'data'),
    FLOTILLA_EXEC_ROOT: execRoot,
    FLOTILLA_ENGINE_ID: engineId,
    FLOTILLA_REDIS_URL: redis.url,
    FLOTILLA_NATS_URL: nats.url,
    FLOTILLA_GRPC_ADDRESS: `unix:${join(directory, `${instance}.grpc.sock`)}`,
    FLOTILLA_STREAM_ADDRESS: `unix:${join(directory, `${instance}.stream.sock`)}`,
    FLOTILLA_LOG_LEVEL: process.env.TEST_LOG_LEVEL ?? 'info',
    FLOTILLA_ENGINE_OPTIONS: JSON.stringify({ cgroupParent, runtimes: { slow: { path: slow.path } } }),
  });
  const images = await startService('image-service', plainSettings, envOf('image-service'), async ({ server }) => {
    server.add(ImagesService, imageHandlers(asked));
    server.add(SnapshotsService, snapshotHandlers(directory, layer, asked));
  });
  const network = await startService('network-volume', plainSettings, envOf('network-volume'), async ({ server }) => {
    server.add(SandboxesService, sandboxHandlers(asked));
    server.add(VolumesService, volumeHandlers(directory, asked));
  });
  const env = envOf('container-service');
  const logger = createLogger({ service: 'test', instance: 'test', level: 'error' });
  const bus = await Bus.connect({ url: nats.url, user: '', password: '', engineId, name: 'test', logger });
  const discovery = new Discovery({ bus });
  const events: Event[] = [];
  const told = new Set<string>();
  bus.subscribe(`${bus.subject('events')}.>`, (payload) => {
    const event = Event.decode(payload);
    // After a crash the relay may publish one again; JetStream tells them apart by their message ids.
    const key = `${event.timeNano} ${event.action} ${event.actorId}`;
    if (!told.has(key)) events.push(event);
    told.add(key);
  });
  let others = 0;
  const stack: Stack = {
    directory,
    execRoot,
    slowRuntimeBegan: slow.began,
    groupOf: (container) => Cgroups.detect(cgroupParent).group(`${cgroupParent}/${container}`),
    asked,
    events,
    env,
    containers: serviceCalls(ContainersService, 'container-service', discovery),
    execs: serviceCalls(ExecsService, 'container-service', discovery),
    service: await startProcess(env),
    async crash(meanwhile) {
      await stack.service.end('SIGKILL');
      await meanwhile?.();
      stack.service = await startProcess(env);
    },
    startAnother: () => startProcess(envOf(`another-${++others}`)),
    async stop() {
      await stack.service.end('SIGTERM');
      await images.lifecycle.stop();
      await network.lifecycle.stop();
      await discovery.stop();
      await bus.close();
      await Promise.all([redis.stop(), nats.stop()]);
      const mounted = endMounts(directory);
      for (const path of [directory, execRoot]) rmSync(path, { recursive: true, force: true });
      removeCgroups(cgroupParent);
      if (mounted.length > 0) throw new Error(`left mounted: ${mounted.join(', ')}`);
    },
  };
  return stack;
}

/** Ends what containers that a test left behind have mounted. @returns what that was. */
function endMounts(directory: string): string[] {
  const mounted = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`));
  for (const path of mounted.toReversed()) umount(path);
  return mounted;
}

/** The parent of the test's groups: empty when nothing of a container is left, which this asserts. */
function removeCgroups(parent: string): void {
  for (const directory of Hierarchy.detect().directories(parent)) if (existsSync(directory)) rmdirSync(directory);
}

export interface RunOptions {
  readonly name?: string;
  readonly config?: Record<string, unknown>;
  readonly hostConfig?: Record<string, unknown>;
}

/** Creates a container of the busybox image without network. */
export async function create(stack: Stack, command: readonly string[], options: RunOptions = {}): Promise<string> {
  const body = { Image: 'busybox', Cmd: command, ...options.config, HostConfig: { NetworkMode: 'none', ...options.hostConfig } };
  const { id } = await stack.containers.create({ name: options.name ?? '', platform: '', configJson: Buffer.from(JSON.stringify(body)) });
  return id;
}

export async function inspect(stack: Stack, container: string): Promise<ContainerInspect> {
  const { containerJson } = await stack.containers.inspect({ container, size: false });
  return JSON.parse(containerJson.toString());
}

/** Begins to wait at once; the promise resolves with the exit code. */
export function wait(stack: Stack, container: string, condition: WaitCondition = WaitCondition.NOT_RUNNING): Promise<number> {
  return (async () => {
    for await (const message of stack.containers.wait({ container, condition }, { signal: AbortSignal.timeout(30_000) })) {
      if (message.result !== undefined) return message.result.exitCode;
    }
    throw new Error('the wait ended without a result');
  })();
}

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

/** Reads a ticket's stream to its end. */
export async function readTicket(ticket: Ticket | undefined, options: { tty?: boolean; input?: string } = {}): Promise<Output> {
  if (ticket === undefined) throw new Error('no ticket');
  const stream = await dialTicket(ticket);
  if (options.input !== undefined) stream.end(options.input);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  stream.destroy();
  const bytes = Buffer.concat(chunks);
  return options.tty ? { stdout: bytes.toString(), stderr: '' } : split(bytes);
}

function split(bytes: Buffer): Output {
  const output = { stdout: '', stderr: '' };
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4);
    output[bytes[at] === 2 ? 'stderr' : 'stdout'] += bytes.subarray(at + 8, at + 8 + length).toString();
    at += 8 + length;
  }
  return output;
}

export async function remove(stack: Stack, container: string): Promise<void> {
  await stack.containers.remove({ container, force: true, removeVolumes: true, removeLink: false });
}

export async function logsOf(stack: Stack, container: string): Promise<Output> {
  const { ticket } = await stack.containers.logs({
    container,
    follow: false,
    stdout: true,
    stderr: true,
    sinceNano: 0n,
    untilNano: 0n,
    timestamps: false,
    details: false,
  });
  return await readTicket(ticket);
}
