import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { connect, createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Packet, Packet_PacketType as PacketType, Stat } from '@flotilla/contracts/fsutil/types/wire';
import { FileSyncService } from '@flotilla/contracts/moby/filesync/v1/filesync';
import { Server, ServerCredentials, type ServerDuplexStream, type ServiceDefinition } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { contentHash } from '../build/copy/contentHash.ts';
import { goMode, kindOf } from './fileMode.ts';
import { syncDirectory } from './fileSync.ts';
import { GrpcConnection } from './grpcConnection.ts';
import { KnownDirectory } from './knownDirectory.ts';

type Call = ServerDuplexStream<Packet, Packet>;

const file = (path: string, content: string, more: Partial<Stat> = {}): Stat =>
  Stat.fromPartial({ path, mode: goMode(0o644, 'file'), size: BigInt(content.length), modTime: 1_000_000_007n, ...more });
const directory = (path: string): Stat => Stat.fromPartial({ path, mode: goMode(0o755, 'directory'), modTime: 5n });
const symlink = (path: string, linkname: string): Stat => Stat.fromPartial({ path, mode: goMode(0o777, 'symlink'), linkname });
const stat = (of: Stat): Packet => Packet.create({ type: PacketType.PACKET_STAT, stat: of });
const device = (path: string): Stat => Stat.fromPartial({ path, mode: 0o600 | (1 << 26) | (1 << 21), devmajor: 1n, devminor: 8n });
const end = Packet.create({ type: PacketType.PACKET_FIN });
const endOfList = Packet.create({ type: PacketType.PACKET_STAT });
const data = (id: number, content: string): Packet => Packet.create({ type: PacketType.PACKET_DATA, id, data: Buffer.from(content) });

let work: string;
let target: string;
let server: Server;
let listener: NetServer;
let connection: GrpcConnection;
let serve: (call: Call) => void;
let asked: number[];

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'flotilla-sync-'));
  server = new Server();
  server.addService(FileSyncService as unknown as ServiceDefinition, { diffCopy: (call: Call) => serve(call) });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  listener = createServer((socket) => injector.injectConnection(socket));
  await new Promise<void>((resolve) => listener.listen(join(work, 'socket'), resolve));
  connection = new GrpcConnection(connect(join(work, 'socket')));
});
afterAll(() => {
  connection.close();
  server.forceShutdown();
  listener.close();
  rmSync(work, { recursive: true });
});
beforeEach(() => {
  asked = [];
  target = mkdtempSync(join(work, 'target-'));
});
afterEach(() => {
  expect(existsSync(join(work, 'evil'))).toBe(false);
});

const sync = (known = new KnownDirectory()): Promise<void> =>
  syncDirectory(
    connection,
    { directory: 'context', paths: [], excludes: [] },
    { path: target, known },
    () => undefined,
    AbortSignal.timeout(60_000),
  );

/** A client that keeps to the protocol. */
function honest(entries: readonly Stat[], contents: Readonly<Record<string, string>>): (call: Call) => void {
  return (call) => {
    for (const entry of entries) call.write(stat(entry));
    call.write(endOfList);
    call.on('data', ({ type, id }: Packet) => {
      if (type === PacketType.PACKET_FIN) {
        call.write(Packet.create({ type: PacketType.PACKET_FIN }));
        return;
      }
      asked.push(id);
      const content = contents[entries[id]?.path ?? ''] ?? '';
      if (content !== '') call.write(data(id, content));
      call.write(data(id, ''));
    });
    call.on('end', () => call.end());
  };
}

describe('a directory of the client', () => {
  it('is as the client has it, and only what differs is asked for again', async () => {
    const first = [
      directory('a'),
      file('a/b', 'one'),
      symlink('a/l', 'b'),
      file('c', 'two'),
      file('d', 'two', { linkname: 'c' }),
      file('e', ''),
    ];
    serve = honest(first, { 'a/b': 'one', c: 'two' });
    await sync();
    expect(asked).toEqual([1, 3, 5]);
    expect(readFileSync(join(target, 'a/b'), 'utf8')).toBe('one');
    expect(readlinkSync(join(target, 'a/l'))).toBe('b');
    expect(statSync(join(target, 'd')).ino).toBe(statSync(join(target, 'c')).ino);
    expect(statSync(join(target, 'a/b'), { bigint: true }).mtimeNs).toBe(1_000_000_007n);
    expect(statSync(join(target, 'a'), { bigint: true }).mtimeNs).toBe(5n);

    asked = [];
    // `a` has become a file, `c` has another time, `e` is as it was, the rest is gone.
    serve = honest([file('a', 'now'), file('c', 'two', { modTime: 9n }), file('e', '')], { a: 'now', c: 'two' });
    await sync();
    expect(asked).toEqual([0, 1]);
    expect(readFileSync(join(target, 'a'), 'utf8')).toBe('now');
    expect(existsSync(join(target, 'd'))).toBe(false);
  });

  it('says what is wrong with it', async () => {
    serve = (call) => call.write(Packet.create({ type: PacketType.PACKET_ERR, data: Buffer.from('no access') }));
    await expect(sync()).rejects.toThrow('error from sender: no access');
  });
});

const hostile: readonly (readonly [name: string, packets: readonly Packet[], message: RegExp])[] = [
  ['climbs out', [stat(file('../evil', 'x')), endOfList], /invalid path "\.\.\/evil"/],
  ['climbs out in the middle', [stat(directory('a')), stat(file('a/../../evil', 'x')), endOfList], /invalid path/],
  ['is absolute', [stat(file('/evil', 'x')), endOfList], /invalid path/],
  ['has a zero byte', [stat(file('a\0b', 'x')), endOfList], /invalid path/],
  ['has no name', [stat(file('', 'x')), endOfList], /invalid path/],
  ['goes through a link', [stat(symlink('a', '..')), stat(file('a/evil', 'x')), endOfList], /stands in no directory/],
  ['goes through a file', [stat(file('a', 'x')), stat(file('a/evil', 'x')), endOfList], /stands in no directory/],
  ['stands in what was not listed', [stat(file('a/b', 'x')), endOfList], /stands in no directory/],
  ['is out of order', [stat(file('b', 'x')), stat(file('a', 'x')), endOfList], /out of order/],
  ['comes twice', [stat(file('a', 'x')), stat(file('a', 'x')), endOfList], /out of order/],
  ['links outside', [stat(file('a', 'x', { linkname: '../socket' })), endOfList], /invalid link/],
  ['links to a directory', [stat(directory('a')), stat(file('b', 'x', { linkname: 'a' })), endOfList], /invalid link/],
  ['is more than it said', [stat(file('a', 'x')), endOfList, data(0, 'xx')], /larger than the client said/],
  ['was not asked for', [stat(directory('a')), endOfList, data(0, 'x')], /invalid file request 0/],
  ['comes after the end of the list', [endOfList, stat(file('a', 'x'))], /after the end of its list/],
  ['is larger than any disk', [stat(file('a', 'x', { size: 1n << 60n })), endOfList], /no space left/],
  ['is the last before all is here', [stat(file('a', 'x')), endOfList, end], /before it was told that all is here/],
  ['is the last before the list has ended', [end, stat(file('a', 'x'))], /before it was told that all is here/],
  ['has a name longer than any path', [stat(file('a'.repeat(5000), 'x')), endOfList], /invalid path/],
  ['has a name that no file has', [stat(file('a'.repeat(300), 'x')), endOfList, data(0, 'x')], /ENAMETOOLONG|name too long/],
  ['has a size below nothing', [stat(file('a', 'x', { size: -1n })), endOfList, data(0, 'x')], /larger than the client said/],
  ['gets more when it is complete', [stat(file('a', 'x')), endOfList, data(0, 'x'), data(0, ''), data(0, 'x')], /invalid file request 0/],
  ['is a device and has content', [stat(device('a')), endOfList, data(0, 'x')], /invalid file request 0/],
  ['has a packet that nobody knows', [Packet.create({ type: 77 as never })], /unknown type: 77/],
];

describe('a client whose entry', () => {
  it.each(hostile)('%s is refused', async (_name, packets, message) => {
    serve = (call) => {
      call.on('error', () => undefined);
      for (const packet of packets) call.write(packet);
    };
    await expect(sync()).rejects.toThrow(message);
  });

  it('is one of many with more about them than can be remembered is refused', async () => {
    const xattrs = { 'user.x': Buffer.alloc(15 * 1024 * 1024) };
    serve = (call) => {
      call.on('error', () => undefined);
      const send = (index: number): void => {
        if (index < 20 && !call.destroyed) call.write(stat({ ...directory(`d${index + 10}`), xattrs }), () => send(index + 1));
      };
      send(0);
    };
    await expect(sync()).rejects.toThrow(/list of files is larger than 268435456 bytes/);
  });

  it('was there as a link before is put in its place, not where that leads', async () => {
    mkdirSync(join(work, 'elsewhere'));
    symlinkSync(join(work, 'elsewhere'), join(target, 'a'));
    serve = honest([directory('a'), file('a/b', 'x')], { 'a/b': 'x' });
    await sync();
    expect(existsSync(join(work, 'elsewhere/b'))).toBe(false);
    expect(readFileSync(join(target, 'a/b'), 'utf8')).toBe('x');
  });

  it('shares its bytes with another name is not written through', async () => {
    serve = honest([file('a', 'x')], { a: 'x' });
    await sync();
    linkSync(join(target, 'a'), join(work, 'other'));
    serve = honest([file('a', 'yy')], { a: 'yy' });
    await sync();
    expect(readFileSync(join(work, 'other'), 'utf8')).toBe('x');
  });
});

it('a client that ends the call early is told on', async () => {
  serve = (call) => {
    call.write(stat(file('a', 'x')));
    call.end();
  };
  await expect(sync()).rejects.toThrow('the client ended its files too early');
});

it('a client that says for ever that all is sent is refused', async () => {
  serve = (call) => {
    call.on('error', () => undefined);
    call.write(endOfList);
    call.once('data', () => {
      const again = (): void => {
        while (!call.cancelled && !call.destroyed && call.write({ ...end, data: Buffer.alloc(32 * 1024) }));
        if (!call.cancelled && !call.destroyed) call.once('drain', again);
      };
      again();
    });
  };
  await expect(sync()).rejects.toThrow(/told that all is here, or again/);
});

it('a client that leaves without saying that all is sent has not sent all', async () => {
  serve = (call) => {
    call.write(endOfList);
    call.once('data', () => call.end());
  };
  await expect(sync()).rejects.toThrow('the client ended its files too early');
});

it('devices of a client are not made', async () => {
  serve = honest([device('a'), file('b', 'x')], { b: 'x' });
  await sync();
  expect([existsSync(join(target, 'a')), readFileSync(join(target, 'b'), 'utf8')]).toEqual([false, 'x']);
});

/** The order of a walk. */
const inOrder = (a: string, b: string): boolean => a.replaceAll('/', '\0') < b.replaceAll('/', '\0');

/** A tree of a client that changes at random: its list, in order, and what is in its files. */
class RandomTree {
  private readonly random: () => number;
  private readonly entries = new Map<string, Stat>();
  readonly contents: Record<string, string> = {};
  private time = 100n;

  constructor(seed: number) {
    let state = seed;
    this.random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
  }

  get list(): Stat[] {
    return [...this.entries.values()].sort((a, b) => (inOrder(a.path, b.path) ? -1 : 1));
  }

  private pick(values: readonly string[]): string {
    return values[Math.floor(this.random() * values.length)] ?? '';
  }

  /** Something is put at a path, in place of what was there, or goes. */
  change(): void {
    const directories = ['', ...this.list.filter(({ path }) => this.isDirectory(path)).map(({ path }) => `${path}/`)];
    const path = this.pick(directories) + this.pick(['a', 'b', 'c', 'a.b', 'a-b']);
    for (const { path: each } of this.list) if (each === path || each.startsWith(`${path}/`)) this.remove(each);
    const what = this.random();
    const plain = this.list.filter(
      ({ path: each, linkname }) => this.contents[each] !== undefined && linkname === '' && inOrder(each, path),
    );
    const modTime = ++this.time;
    if (what < 0.2) return;
    if (what < 0.45) this.entries.set(path, Stat.fromPartial({ ...directory(path), modTime }));
    else if (what < 0.55) this.entries.set(path, Stat.fromPartial({ ...symlink(path, this.pick(['x', 'y'])), modTime }));
    else if (what < 0.65 && plain.length > 0) {
      const linkname = this.pick(plain.map(({ path: each }) => each));
      this.entries.set(path, file(path, '', { linkname, modTime }));
    } else {
      const content = `${this.random()}`;
      this.contents[path] = content;
      this.entries.set(path, file(path, content, { modTime }));
    }
  }

  private isDirectory(path: string): boolean {
    return kindOf(this.entries.get(path)?.mode ?? 0) === 'directory';
  }

  /** With the names that share its bytes: whoever comes next would be another list. */
  private remove(path: string): void {
    this.entries.delete(path);
    delete this.contents[path];
    for (const { path: each, linkname } of this.list) if (linkname === path && !this.isDirectory(each)) this.entries.delete(each);
  }

  expected(): string[] {
    return this.list.map(({ path, mode, linkname, modTime }) => {
      const kind = kindOf(mode);
      if (kind === 'directory') return `${path} directory ${modTime}`;
      if (kind === 'symlink') return `${path} -> ${linkname}`;
      return linkname === '' ? `${path} = ${this.contents[path]} ${modTime}` : `${path} is ${linkname}`;
    });
  }
}

/** What is there, in the words of {@link RandomTree.expected}. */
function found(tree: RandomTree): string[] {
  const paths = readdirSync(target, { recursive: true, encoding: 'utf8' });
  expect(paths.sort()).toEqual(tree.list.map(({ path }) => path).sort());
  return tree.list.map(({ path, mode, linkname }) => {
    const at = join(target, path);
    const stat = lstatSync(at, { bigint: true });
    if (stat.isDirectory()) return `${path} directory ${stat.mtimeNs}`;
    if (stat.isSymbolicLink()) return `${path} -> ${readlinkSync(at)}`;
    if (kindOf(mode) === 'file' && linkname !== '')
      return `${path} is ${stat.ino === lstatSync(join(target, linkname), { bigint: true }).ino ? linkname : '?'}`;
    return `${path} = ${readFileSync(at, 'utf8')} ${stat.mtimeNs}`;
  });
}

describe('a directory that is known from before', () => {
  it.each([1, 2, 3, 4])('is what the client has after any changes, and so are its digests (seed %i)', async (seed) => {
    const tree = new RandomTree(seed);
    const known = new KnownDirectory();
    const digest = (more: object): Promise<string> => contentHash(target, { owners: false, ...more }, AbortSignal.timeout(60_000));
    for (let round = 0; round < 30; round++) {
      const before = new Map(tree.list.map((entry) => [entry.path, entry]));
      for (let count = 0; count < (round < 3 ? 12 : round % 4); count++) tree.change();
      const { list } = tree;
      asked = [];
      serve = honest(list, tree.contents);
      await sync(known);
      expect(found(tree)).toEqual(tree.expected());
      // No file is asked for of which nothing has changed.
      for (const id of asked) expect(list[id]).not.toEqual(before.get(list[id]?.path ?? ''));
      expect(await digest({ known: { root: target, digests: known } })).toBe(await digest({}));
    }
  });

  it('is looked at anew when its list was too large to be kept', async () => {
    const known = new KnownDirectory();
    const wide = { ...directory('w'), xattrs: { 'user.x': Buffer.alloc(9 * 1024 * 1024) } };
    const list = [directory('a'), file('a/b', 'x'), wide, { ...wide, path: 'x' }];
    serve = honest(list, { 'a/b': 'x' });
    await sync(known);
    expect(known.listing).toBeUndefined();
    known.set('', 'stale', known.now());
    rmSync(join(target, 'a/b'));
    serve = honest([...list.slice(0, 2), wide], { 'a/b': 'x' });
    await sync(known);
    expect(existsSync(join(target, 'a/b'))).toBe(true);
    expect(existsSync(join(target, 'x'))).toBe(false);
    expect(known.get('')).toBeUndefined();
    expect(known.listing?.sizeBytes).toBeGreaterThan(9 * 1024 * 1024);
  });

  it('is not looked at when the list is the same, nor where it is the same', async () => {
    const known = new KnownDirectory();
    const list = [directory('a'), file('a/b', 'x'), directory('c'), file('c/d', 'x')];
    serve = honest(list, { 'a/b': 'x', 'c/d': 'x' });
    await sync(known);
    asked = [];
    rmSync(join(target, 'a/b'));
    await sync(known);
    serve = honest([...list.slice(0, 3), file('c/d', 'yy')], { 'c/d': 'yy' });
    await sync(known);
    expect(asked).toEqual([3]);
    expect(existsSync(join(target, 'a/b'))).toBe(false);
    expect(readFileSync(join(target, 'c/d'), 'utf8')).toBe('yy');
  });
});
