/** A running network-volume in a test host of its own, with real redis and nats, and typed calls to it. */

import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { NetworksService, SandboxesService, type SandboxSpec } from '@flotilla/contracts/flotilla/network/v1/networks';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { fromServiceError, isServiceError } from '@flotilla/errors';
import type { Calls } from '@flotilla/service-kit';
import { createTestHost, startNats, startRedis, type TestHost, type TestNats, type TestRedis, waitFor } from '@flotilla/testkit';
import { Client, credentials, Metadata, type MethodDefinition, type ServiceDefinition } from '@grpc/grpc-js';
import { serverScript } from './traffic.ts';

const main = join(import.meta.dirname, '../src/main.ts');

/** Calls straight to a socket: discovery is tested elsewhere. */
function directCalls<D extends ServiceDefinition>(definition: D, client: Client): Record<string, (request: unknown) => Promise<unknown>> {
  const calls: Record<string, (request: unknown) => Promise<unknown>> = {};
  for (const [name, method] of Object.entries(definition) as [string, MethodDefinition<unknown, unknown>][]) {
    calls[name] = (request) =>
      new Promise((resolve, reject) => {
        const metadata = new Metadata({ waitForReady: true });
        client.makeUnaryRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          request,
          metadata,
          { deadline: Date.now() + 15_000 },
          (error, response) => (error === null ? resolve(response) : reject(isServiceError(error) ? fromServiceError(error) : error)),
        );
      });
  }
  return calls;
}

export interface Sandbox {
  readonly id: string;
  readonly netns: string;
  readonly settings: {
    readonly IPAddress: string;
    readonly Gateway: string;
    readonly Ports: Record<string, { HostIp: string; HostPort: string }[] | null>;
    readonly Networks: Record<
      string,
      { IPAddress: string; GlobalIPv6Address: string; MacAddress: string; EndpointID: string; DNSNames: string[] | null }
    >;
    readonly SandboxKey: string;
  };
  readonly files: { readonly hosts: string; readonly hostname: string; readonly resolvConf: string };
}

export class NetworkVolumeStack {
  readonly host: TestHost;
  readonly redis: TestRedis;
  readonly nats: TestNats;
  readonly engineId = `test-${randomBytes(4).toString('hex')}`;
  networks!: Calls<typeof NetworksService>;
  sandboxes!: Calls<typeof SandboxesService>;
  volumes!: Calls<typeof VolumesService>;
  log = '';
  private child: ChildProcess | undefined;
  private client: Client | undefined;
  private options: object = {};

  private constructor(host: TestHost, redis: TestRedis, nats: TestNats) {
    this.host = host;
    this.redis = redis;
    this.nats = nats;
  }

  static async start(options: object = {}): Promise<NetworkVolumeStack> {
    const host = await createTestHost();
    await host.sh('ip link set lo up');
    const [redis, nats] = [await startRedis({ place: host }), await startNats({ place: host })];
    const stack = new NetworkVolumeStack(host, redis, nats);
    stack.options = options;
    await stack.startService();
    return stack;
  }

  get socket(): string {
    return join(this.host.execRoot, 'sockets/network-volume/test.grpc.sock');
  }

  /** @param options - the engine's, for this life. */
  async startService(options: object = this.options): Promise<void> {
    this.log = '';
    const child = this.host.spawn(process.execPath, [main], {
      env: {
        ...process.env,
        FLOTILLA_DATA_ROOT: this.host.dataRoot,
        FLOTILLA_EXEC_ROOT: this.host.execRoot,
        FLOTILLA_ENGINE_ID: this.engineId,
        FLOTILLA_INSTANCE: randomBytes(4).toString('hex'),
        FLOTILLA_REDIS_URL: this.redis.url,
        FLOTILLA_NATS_URL: this.nats.url,
        FLOTILLA_GRPC_ADDRESS: `unix:${this.socket}`,
        FLOTILLA_ENGINE_OPTIONS: JSON.stringify(options),
        FLOTILLA_LOG_LEVEL: 'debug',
        FLOTILLA_SANDBOX_POOL: '4',
      },
    });
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.log += chunk.toString();
      });
    }
    await waitFor(
      () => {
        if (child.exitCode !== null) throw new Error('network-volume ended');
        return this.log.includes('"ready"');
      },
      { what: 'network-volume', timeoutMs: 30_000 },
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log}`, { cause: error });
    });
    this.client?.close();
    const client = new Client(`unix:${this.socket}`, credentials.createInsecure());
    this.client = client;
    this.networks = directCalls(NetworksService, client) as unknown as Calls<typeof NetworksService>;
    this.sandboxes = directCalls(SandboxesService, client) as unknown as Calls<typeof SandboxesService>;
    this.volumes = directCalls(VolumesService, client) as unknown as Calls<typeof VolumesService>;
  }

  /** Ends the service by a signal and waits until it is gone. */
  async stopService(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.child;
    if (child === undefined || child.exitCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await gone;
  }

  /** A container's start, as container-service asks for it. */
  async prepare(wish: Partial<SandboxSpec> & { ports?: object; endpoints?: object } = {}): Promise<Sandbox> {
    const spec = sandboxSpec(wish);
    const answer = await this.sandboxes.prepare({ spec });
    return {
      id: spec.containerId,
      netns: answer.netnsPath,
      settings: JSON.parse(Buffer.from(answer.networkSettingsJson).toString()),
      files: { hosts: answer.hostsPath, hostname: answer.hostnamePath, resolvConf: answer.resolvConfPath },
    };
  }

  /** Runs a shell script inside a sandbox (and the test host's file systems). */
  async inside(sandbox: Pick<Sandbox, 'netns'>, script: string): Promise<string> {
    return (await this.host.mustRun('nsenter', [`--net=${sandbox.netns}`, 'sh', '-ec', script])).stdout;
  }

  /** Starts something that goes on inside a sandbox. */
  spawnInside(sandbox: Pick<Sandbox, 'netns'>, command: string, ...args: string[]): ChildProcess {
    return this.host.spawn('nsenter', [`--net=${sandbox.netns}`, command, ...args]);
  }

  /** A process that says when it listens, and ends with the stack at the latest. */
  async listening(child: ChildProcess): Promise<ChildProcess> {
    this.host.onDispose(() => {
      child.kill('SIGKILL');
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    });
    return child;
  }

  /** A server inside a sandbox that answers every connection with a word. */
  serve(sandbox: Pick<Sandbox, 'netns'>, port: number, word: string): Promise<ChildProcess> {
    return this.listening(this.spawnInside(sandbox, process.execPath, '-e', serverScript(port, word)));
  }

  /** Takes sandboxes down for good. */
  async release(...sandboxes: { id: string }[]): Promise<void> {
    for (const { id } of sandboxes) await this.sandboxes.release({ containerId: id, remove: true });
  }

  async createNetwork(config: object): Promise<string> {
    return (await this.networks.create({ configJson: json(config) })).id;
  }

  async inspectNetwork(network: string): Promise<Record<string, unknown>> {
    const answer = await this.networks.inspect({ network, verbose: false, scope: '' });
    return JSON.parse(Buffer.from(answer.networkJson).toString());
  }

  async dispose(): Promise<void> {
    this.client?.close();
    await this.stopService('SIGKILL');
    await this.nats.stop();
    await this.redis.stop();
    await this.host.dispose();
  }
}

export function json(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

let counter = 0;

export function sandboxSpec(wish: Partial<SandboxSpec> & { ports?: object; endpoints?: object } = {}): SandboxSpec {
  counter += 1;
  const { ports, endpoints, ...given } = wish;
  const containerId = given.containerId ?? randomBytes(32).toString('hex');
  return {
    containerId,
    containerName: `c${counter}`,
    hostname: containerId.slice(0, 12),
    domainname: '',
    networkMode: 'default',
    endpointsJson: json(endpoints ?? {}),
    portBindingsJson: json(ports ?? {}),
    exposedPorts: [],
    publishAllPorts: false,
    dns: [],
    dnsSearch: [],
    dnsOptions: [],
    extraHosts: [],
    links: [],
    macAddress: '',
    sysctls: {},
    ...given,
  };
}
