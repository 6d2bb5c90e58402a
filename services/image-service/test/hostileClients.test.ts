/** Clients of BuildKit's protocol that lie, leave or flood: each build of theirs ends with an error, nothing of it stays, and others are served. */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClientConnection, type ClientSession } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { Packet, Packet_PacketType as PacketType, Stat } from '@flotilla/contracts/fsutil/types/wire';
import { ControlService, SolveRequest, type SolveResponse, StatusRequest } from '@flotilla/contracts/moby/buildkit/v1/control';
import { LLBBridgeService } from '@flotilla/contracts/moby/buildkit/v1/frontend/gateway';
import { AuthService } from '@flotilla/contracts/moby/filesync/v1/auth';
import { FileSendService, FileSyncService } from '@flotilla/contracts/moby/filesync/v1/filesync';
import { UploadService } from '@flotilla/contracts/moby/upload/v1/upload';
import { isNotImplemented } from '@flotilla/errors';
import { openStanding } from '@flotilla/streams';
import { waitFor } from '@flotilla/testkit';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { goMode } from '../src/buildkit/fileMode.ts';
import { GrpcConnection } from '../src/buildkit/grpcConnection.ts';
import { Stack } from './stack.ts';

type Call = ServerDuplexStream<Packet, Packet>;
/** What a client does when it is asked for one of its directories. */
type Directory = (call: Call, client: Client) => void;

const patienceMs = 20_000;
const noSignal = new AbortController().signal;
const file = (path: string, content: string): Stat => Stat.fromPartial({ path, mode: 0o644, size: BigInt(content.length), modTime: 1n });
const directory = (path: string): Stat => Stat.fromPartial({ path, mode: goMode(0o755, 'directory'), modTime: 1n });
const stat = (of: Stat): Packet => Packet.create({ type: PacketType.PACKET_STAT, stat: of });
const endOfList = Packet.create({ type: PacketType.PACKET_STAT });
const data = (id: number, content: string): Packet => Packet.create({ type: PacketType.PACKET_DATA, id, data: Buffer.from(content) });

let stack: Stack;
let instances: string;
const clients: Client[] = [];

beforeAll(async () => {
  stack = await Stack.start();
  instances = stack.running('image-service');
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.leave();
  await waitFor(() => readdirSync(join(stack.dataRoot, 'builds')).length === 0, { what: 'the builds to be taken away' });
  expect(stack.running('image-service'), stack.log.slice(-3000)).toBe(instances);
  expect(readdirSync(stack.root, { recursive: true, encoding: 'utf8' }).filter((path) => basename(path) === 'evil')).toEqual([]);
  expect((await stack.list({}, false)).filter(({ RepoTags }) => RepoTags.some((tag) => tag.startsWith('evil')))).toEqual([]);
});
afterAll(() => stack?.stop());

/** A client that keeps to the protocol. */
function honest(files: Readonly<Record<string, string>>): Directory {
  return (call) => {
    const names = Object.keys(files).sort();
    for (const name of names) call.write(stat(file(name, files[name] ?? '')));
    call.write(endOfList);
    call.on('data', ({ type, id }: Packet) => {
      if (type === PacketType.PACKET_FIN) {
        call.write(Packet.create({ type: PacketType.PACKET_FIN }));
        return;
      }
      const content = files[names[id] ?? ''] ?? '';
      if (content !== '') call.write(data(id, content));
      call.write(data(id, ''));
    });
    call.on('end', () => call.end());
  };
}

interface Offers {
  readonly dockerfile?: Directory;
  readonly context?: Directory;
  readonly more?: readonly [ServiceDefinition, UntypedServiceImplementation][];
  readonly id?: string;
  readonly sharedKey?: string;
}

/** Both connections of a client, its own side of them in the tests' hands. */
class Client {
  readonly id: string;
  readonly control: GrpcConnection;
  private readonly socket: Socket;
  private readonly server: Server;

  private constructor(id: string, control: GrpcConnection, socket: Socket, server: Server) {
    this.id = id;
    this.control = control;
    this.socket = socket;
    this.server = server;
  }

  static async open({ dockerfile, context, more = [], id = randomBytes(8).toString('hex'), sharedKey = '' }: Offers): Promise<Client> {
    const server = new Server();
    const serve = (call: Call): void => {
      call.on('error', () => undefined);
      const asked = String(call.metadata.get('dir-name')[0]);
      const directory = asked === 'dockerfile' ? dockerfile : context;
      (directory ?? honest({}))(call, client);
    };
    const diffCopy: [ServiceDefinition, UntypedServiceImplementation] = [
      FileSyncService as unknown as ServiceDefinition,
      { diffCopy: serve },
    ];
    for (const [service, implementation] of [diffCopy, ...more]) server.addService(service, implementation);
    const methods = [diffCopy, ...more].flatMap(([service]) => Object.values(service).map(({ path }) => path));
    const socket = await dial({ id, sharedKey, methods });
    server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(socket);
    const client: Client = new Client(id, new GrpcConnection(await dial()), socket, server);
    clients.push(client);
    return client;
  }

  solve(more: Partial<SolveRequest> = {}, ref = randomBytes(8).toString('hex')): Promise<SolveResponse> {
    const request = SolveRequest.fromPartial({ ref, session: this.id, frontend: 'dockerfile.v0', ...more });
    return this.control.call(ControlService.solve, request, noSignal, patienceMs);
  }

  leaveSession(): void {
    this.socket.destroy();
  }

  leave(): void {
    this.control.close();
    this.socket.destroy();
    this.server.forceShutdown();
  }
}

/** One of a client's connections: the one on which it is served, or a session. */
async function dial(session?: ClientSession): Promise<Socket> {
  const { ticket } = await stack.buildkit.openConnections({});
  if (ticket === undefined) throw new Error('no ticket');
  const what = ClientConnection.fromPartial({ isAnswered: true, ...(session && { session }) });
  const { stream } = await openStanding(ticket, ClientConnection.encode(what).finish(), {});
  return stream.on('error', () => undefined) as Socket;
}

const image = [{ type: 'moby', attrs: { name: 'evil:latest' } }];
const copyAll = honest({ Dockerfile: 'FROM scratch\nCOPY . /\n' });

async function served(): Promise<void> {
  const client = await Client.open({ dockerfile: copyAll, context: honest({ a: 'content' }) });
  const { exporterResponse } = await client.solve({ exporters: [{ type: 'moby', attrs: { name: 'good:latest' } }] });
  expect(exporterResponse['containerimage.digest']).toMatch(/^sha256:/);
}

describe('a session', () => {
  it.each<[string, Offers, RegExp]>([
    // Past the build's own directory, with which it would go.
    ['whose Dockerfile climbs out', { dockerfile: (call) => call.write(stat(directory('../../../evil'))) }, /invalid path "[./]+evil"/],
    ['that has no Dockerfile', { dockerfile: honest({}) }, /failed to read dockerfile: open Dockerfile: no such file or directory/],
    [
      'whose Dockerfile is larger than any',
      { dockerfile: (call) => call.write(stat(Stat.fromPartial({ path: 'Dockerfile', mode: 0o644, size: 1n << 60n }))) },
      /no space left/,
    ],
    [
      'that gives an error for its context',
      { dockerfile: copyAll, context: (call) => call.write(Packet.create({ type: PacketType.PACKET_ERR, data: Buffer.from('never') })) },
      /error from sender: never/,
    ],
    ['whose context has no end', { dockerfile: copyAll, context: endless }, /is larger than the client said/],
    ['that ends the call of its context', { dockerfile: copyAll, context: (call) => call.end() }, /ended its files too early/],
    [
      'that refuses the call',
      { dockerfile: (call) => call.emit('error', { code: 7, details: 'no access allowed to dir' }) },
      /no access allowed to dir/,
    ],
    ['that leaves as it is asked for its Dockerfile', { dockerfile: (_call, client) => client.leaveSession() }, /has left/],
    [
      'that leaves in the middle of its list',
      { dockerfile: copyAll, context: (call, client) => call.write(stat(file('a', 'x')), () => client.leaveSession()) },
      /has left|ended its files too early/,
    ],
    [
      'that leaves in the middle of a file',
      {
        dockerfile: copyAll,
        context: (call, client) => {
          for (const packet of [stat(file('a', 'xx')), endOfList, data(0, 'x')]) call.write(packet);
          call.on('data', () => client.leaveSession());
        },
      },
      /has left|ended its files too early/,
    ],
    [
      'that leaves as it is asked for credentials',
      {
        dockerfile: honest({ Dockerfile: 'FROM 127.0.0.1:9/none\n' }),
        more: [[AuthService as unknown as ServiceDefinition, { credentials: () => clients.at(-1)?.leaveSession() }]],
      },
      /has left/,
    ],
    [
      'that refuses its credentials',
      {
        dockerfile: honest({ Dockerfile: 'FROM 127.0.0.1:9/none\n' }),
        more: [
          [
            AuthService as unknown as ServiceDefinition,
            { credentials: (_call: unknown, answer: (error: object) => void) => answer({ code: 2, details: 'helper failed' }) },
          ],
        ],
      },
      /helper failed/,
    ],
  ])('%s fails its build', async (_name, offers, message) => {
    const client = await Client.open(offers);
    await expect(client.solve({ exporters: image })).rejects.toThrow(message);
  });

  function endless(call: Call): void {
    for (const packet of [stat(file('a', 'x')), endOfList]) call.write(packet);
    call.once('data', () => {
      const more = (): void => {
        while (!call.cancelled && !call.destroyed && call.write(data(0, 'x'.repeat(32 * 1024))));
        if (!call.cancelled && !call.destroyed) call.once('drain', more);
      };
      more();
    });
  }

  it('that leaves while it takes the files of a result fails its build', async () => {
    const diffCopy = (call: Call, client = clients.at(-1)): void => {
      call.on('error', () => undefined);
      call.once('data', () => client?.leaveSession());
    };
    const client = await Client.open({
      dockerfile: copyAll,
      context: honest({ a: 'x'.repeat(100_000) }),
      more: [[FileSendService as unknown as ServiceDefinition, { diffCopy }]],
    });
    await expect(client.solve({ exporters: [{ type: 'local', attrs: {} }] })).rejects.toThrow(/has left/);
  });

  it('whose upload is no archive, or has none of that name, fails its build', async () => {
    const pull = (call: Call): void => {
      call.write({ data: Buffer.from('no tar at all'.repeat(1000)) } as unknown as Packet);
      call.end();
    };
    const client = await Client.open({ more: [[UploadService as unknown as ServiceDefinition, { pull }]] });
    const context = 'http://buildkit-session/x';
    await expect(client.solve({ frontendAttrs: { context } })).rejects.toThrow(/dockerfile parse error|archive|tar|unknown instruction/i);
    const without = await Client.open({});
    await expect(without.solve({ frontendAttrs: { context } })).rejects.toThrow(/does not implement|UNIMPLEMENTED/i);
  });

  it('has its id alone', async () => {
    const client = await Client.open({ dockerfile: copyAll, context: honest({ a: '' }) });
    const already = expect.stringContaining(`session ${client.id} already exists`);
    await expect(dial({ id: client.id, sharedKey: '', methods: [] })).rejects.toMatchObject({ kind: 'InvalidParameter', message: already });
    // Who comes first has it, however close the other is.
    const id = randomBytes(8).toString('hex');
    const both = await Promise.allSettled([1, 2].map(() => dial({ id, sharedKey: '', methods: [] })));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    for (const one of both) if (one.status === 'fulfilled') one.value.destroy();
    await client.solve({ exporters: [] });
  });
});

describe('a directory that was built before', () => {
  const files = { a: 'first', b: 'second' };
  /** What was asked of it for a build: the paths of each list, `.dockerignore` apart. */
  function watched(asked: string[]): Directory {
    return (call, client) => {
      const paths = call.metadata.get('followpaths').map(String);
      if (paths[0] !== ignoreFile) asked.push(paths.join());
      const wanted = Object.entries(files).filter(([name]) => paths.includes(name));
      honest(Object.fromEntries(wanted))(call, client);
    };
  }
  const ignoreFile = '.dockerignore';
  const exporters = [{ type: 'moby', attrs: { name: 'good:latest' } }];
  const copying = (name: string): Directory => honest({ Dockerfile: `FROM scratch\nCOPY ${name} /\n` });

  it('is listed before the Dockerfile is here, and again when that needs something else', async () => {
    const sharedKey = randomBytes(8).toString('hex');
    const asked: string[] = [];
    const first = await Client.open({ dockerfile: copying('a'), context: watched(asked), sharedKey });
    const made = await first.solve({ exporters });
    expect(asked.splice(0)).toEqual(['a']);

    // A client whose Dockerfile comes only when it has been asked for the list.
    const late: Directory = async (call, client) => {
      await waitFor(() => asked.length > 0, { what: 'the list to be asked for' });
      copying('a')(call, client);
    };
    const second = await Client.open({ dockerfile: late, context: watched(asked), sharedKey });
    expect((await second.solve({ exporters })).exporterResponse).toEqual(made.exporterResponse);
    expect(asked.splice(0)).toEqual(['a']);

    const third = await Client.open({ dockerfile: copying('b'), context: watched(asked), sharedKey });
    const other = await third.solve({ exporters });
    expect(other.exporterResponse).not.toEqual(made.exporterResponse);
    expect(asked.splice(0)).toEqual(['a', 'b']);

    // What it was asked for is the last one's.
    const fourth = await Client.open({ dockerfile: copying('b'), context: watched(asked), sharedKey });
    expect((await fourth.solve({ exporters })).exporterResponse).toEqual(other.exporterResponse);
    expect(asked).toEqual(['b']);
  });

  it('of which nothing is needed any more, or whose Dockerfile has gone, is let alone', async () => {
    const sharedKey = randomBytes(8).toString('hex');
    const asked: string[] = [];
    let taken = 0;
    const endless: Directory = (call) => {
      call.on('cancelled', () => taken++);
      call.write(stat(file('a', 'first')));
    };
    const first = await Client.open({ dockerfile: copying('a'), context: watched(asked), sharedKey });
    await first.solve({ exporters });
    const context: Directory = (call, client) =>
      (String(call.metadata.get('followpaths')[0]) === ignoreFile ? honest({}) : endless)(call, client);
    const second = await Client.open({ dockerfile: honest({ Dockerfile: 'FROM scratch\nLABEL a=b\n' }), context, sharedKey });
    await second.solve({ exporters });
    await waitFor(() => taken === 1, { what: 'the list to be taken back' });
    const third = await Client.open({ dockerfile: honest({}), context, sharedKey });
    await expect(third.solve({ exporters })).rejects.toThrow(/failed to read dockerfile/);
    await waitFor(() => taken === 2, { what: 'the list to be taken back' });
  });
});

describe('a request', () => {
  const broken = { def: [Buffer.from('no operation')], metadata: {}, source: undefined };
  it.each<[string, Partial<SolveRequest>, RegExp]>([
    ['with a definition', { frontend: '', definition: broken }, /does not solve definitions/],
    ['for another frontend', { frontend: 'other.v1' }, /the frontend other.v1 is not available/],
    [
      'for a frontend that is an image',
      { frontend: 'gateway.v0', frontendAttrs: { source: 'evil/frontend' } },
      /evil\/frontend is not available/,
    ],
    ['for a question that nobody knows', { frontendAttrs: { requestid: 'frontend.evil' } }, /unsupported request frontend.evil/],
    ['with an entitlement that nobody knows', { entitlements: ['evil'] }, /unknown entitlement evil/],
    ['for the rights of the host', { entitlements: ['security.insecure'] }, /granting entitlement security.insecure is not allowed/],
    [
      'for somebody’s network',
      { frontendAttrs: { 'force-network-mode': 'container:x' } },
      /network mode "container:x" not supported by buildkit/,
    ],
    ['for another exporter', { exporters: [{ type: 'evil', attrs: {} }] }, /exporter "evil" could not be found/],
    ['with a name that is none', { exporters: [{ type: 'moby', attrs: { name: 'UPPER/../x' } }] }, /invalid reference|must be lowercase/],
    ['with inputs that are broken', { frontendAttrs: { 'context:x': 'input:y' }, frontendInputs: { y: broken } }, /does not solve/],
    ['for a result that is not there', { frontendAttrs: { 'context:x': 'input:y' } }, /does not solve|is gone/],
    ['with a Dockerfile outside', { frontendAttrs: { filename: '../../evil' } }, /forbidden path outside/],
    ['with options without end', { frontendAttrs: { platform: 'linux/'.repeat(1_000_000) } }, /platform/],
    [
      'with a setting that is neither yes nor no',
      { frontendAttrs: { 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR': 'nonsense' } },
      /invalid boolean value of build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR: strconv.ParseBool: parsing "nonsense": invalid syntax/,
    ],
    ['for an image of another time', { exporters: [{ type: 'moby', attrs: { 'source-date-epoch': '1' } }] }, /argument SOURCE_DATE_EPOCH/],
    ['for files of no time', { exporters: [{ type: 'local', attrs: { 'source-date-epoch': 'x' } }] }, /invalid SOURCE_DATE_EPOCH: x/],
    ['with a ulimit that is none', { frontendAttrs: { ulimit: 'nofile=x' } }, /invalid ulimit/],
  ])('%s fails', async (_name, request, message) => {
    const client = await Client.open({ dockerfile: honest({ Dockerfile: 'FROM x\n' }), context: honest({}) });
    await expect(client.solve(request)).rejects.toThrow(message);
  });

  it('about builds and sessions that are not there fails after a while', async () => {
    const client = await Client.open({});
    const follow = client.control.open(ControlService.status, [], noSignal);
    await follow.send(StatusRequest.fromPartial({ ref: 'evil' }));
    follow.end();
    const followed = (async () => {
      for await (const _messages of follow.batches()) throw new Error('there is such a build');
    })();
    await expect(followed).rejects.toThrow('no such job evil');
    await expect(client.control.call(LLBBridgeService.ping, {}, noSignal, patienceMs)).rejects.toThrow('the call names no build');
    await expect(client.solve({ session: 'evil' })).rejects.toThrow('no active session for evil');
  }, 60_000);

  it.each([
    '/moby.buildkit.v1.Control/ListenBuildHistory',
    '/moby.buildkit.v1.Control/UpdateBuildHistory',
    '/moby.buildkit.v1.frontend.LLBBridge/ReadFile',
  ])('for what is not served, %s, is told so, which clients take for an engine without it', async (path) => {
    const client = await Client.open({});
    const method = { path, requestSerialize: () => Buffer.alloc(0), responseDeserialize: (bytes: Buffer) => bytes };
    const error: unknown = await client.control.call(method, {}, noSignal, patienceMs).catch((thrown: unknown) => thrown);
    expect(isNotImplemented(error)).toBe(true);
  });

  it('of a name in use fails, and the build of that name goes on', async () => {
    const asked = Promise.withResolvers<Call>();
    const client = await Client.open({ dockerfile: (call) => asked.resolve(call), context: honest({ a: '' }) });
    const solved = client.solve({}, 'same');
    const call = await asked.promise;
    await expect(client.solve({}, 'same')).rejects.toThrow('job ID same exists');
    copyAll(call, client);
    await solved;
  });

  it.each<[string, (reached: () => void, port: number) => Offers]>([
    ['the Dockerfile is asked for', (reached) => ({ dockerfile: reached })],
    ['the context is asked for', (reached) => ({ dockerfile: copyAll, context: reached })],
    ['the base is pulled', (_reached, port) => ({ dockerfile: honest({ Dockerfile: `FROM 127.0.0.1:${port}/base\n` }) })],
    [
      'the result is sent',
      (reached) => ({
        dockerfile: copyAll,
        context: honest({ a: 'x'.repeat(100_000) }),
        more: [[FileSendService as unknown as ServiceDefinition, { diffCopy: reached }]],
      }),
    ],
  ])('that is taken back while %s leaves nothing', async (_phase, offers) => {
    const { promise, resolve: reached } = Promise.withResolvers<void>();
    // A registry that takes connections and says nothing.
    const registry = createServer(() => reached());
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
    try {
      const client = await Client.open(offers(reached, (registry.address() as AddressInfo).port));
      const abort = new AbortController();
      const request = SolveRequest.fromPartial({
        ref: randomBytes(8).toString('hex'),
        session: client.id,
        frontend: 'dockerfile.v0',
        exporters: [{ type: 'local', attrs: {} }],
      });
      const solved = client.control.call(ControlService.solve, request, abort.signal);
      solved.catch(() => undefined);
      await promise;
      abort.abort(new Error('taken back'));
      await expect(solved).rejects.toThrow('taken back');
      await waitFor(() => readdirSync(join(stack.dataRoot, 'builds')).length === 0, { what: 'the build to go' });
      await served();
    } finally {
      registry.close();
    }
  });
});

describe('a connection', () => {
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const settings = frame(4, 0, 0, Buffer.alloc(0));

  it.each<[string, readonly Buffer[]]>([
    ['of no protocol', [Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')]],
    ['of noise', [preface, randomBytes(100_000)]],
    ['whose headers are broken', [preface, settings, frame(1, 4, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff]))]],
    ['of frames that are too large', [preface, settings, frame(0, 0, 1, Buffer.alloc(20_000_000 & 0xffffff))]],
  ])('%s is closed', async (_name, parts) => {
    const socket = await dial();
    socket.resume();
    for (const part of parts) socket.write(part);
    await waitFor(() => socket.destroyed || socket.readableEnded, { what: 'the connection to be closed', timeoutMs: patienceMs });
    socket.destroy();
    await served();
  });

  it.each<[string, Buffer]>([
    ['pings', frame(6, 0, 0, Buffer.alloc(8))],
    ['settings', frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 255, 255]))],
    ['empty data', frame(0, 0, 1, Buffer.alloc(0))],
  ])('that floods with %s does not keep others waiting', async (_name, flood) => {
    const socket = await dial();
    const burst = Buffer.concat(Array<Buffer>(2000).fill(flood));
    socket.write(Buffer.concat([preface, settings]));
    for (let count = 0; count < 50 && !socket.destroyed; count++) if (!socket.write(burst)) await sleep(5);
    await served();
    socket.destroy();
  });

  it('that opens calls and takes them back at once does not keep others waiting', async () => {
    const client = await Client.open({});
    for (let count = 0; count < 3000 && !client.control.closed.aborted; count++) {
      const exchange = client.control.open(ControlService.status, [], noSignal);
      exchange.send(StatusRequest.fromPartial({ ref: `flood-${count}` })).catch(() => undefined);
      exchange.cancel();
      if (count % 100 === 0) await sleep(1);
    }
    await served();
  });

  it('whose messages are no requests is told so', async () => {
    const client = await Client.open({});
    const garbage = { ...ControlService.solve, requestSerialize: (bytes: Buffer) => bytes } as unknown as {
      path: string;
      requestSerialize: (bytes: Buffer) => Buffer;
      responseDeserialize: (bytes: Buffer) => SolveResponse;
    };
    await expect(client.control.call(garbage, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), noSignal, patienceMs)).rejects.toThrow();
  });
});
