/** Copying files in and out of a root full of traps; as root, with the kernel's own rules. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { writeAll } from '@flotilla/streams';
import { mknod, mount, mountFlags, umount } from '@flotilla/syscalls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ArchiveRoot, checkDestination, containerChanges, copyIn, exportTree, openArchive, statPath } from '../src/archive/index.ts';
import { encodeHeader, paddingBytes, type TarHeader } from '../src/archive/tarFormat.ts';
import { readTar } from '../src/archive/tarReader.ts';

let directory: string;
let root: ArchiveRoot;
const at = (path: string): string => join(root.path, path);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-archive-'));
  const path = join(directory, 'rootfs');
  root = { path, container: 'ship', readOnlyRootfs: false, mounts: [] };
  for (const name of ['', 'etc', 'data', 'data/sub', 'tmp']) mkdirSync(join(path, name), { recursive: true });
  writeFileSync(join(directory, 'secret'), 'of the host');
  writeFileSync(at('etc/passwd'), 'inside');
  writeFileSync(at('data/file'), 'hello', { mode: 0o640 });
  symlinkSync('file', at('data/link'));
  symlinkSync('/data', at('absolute'));
  symlinkSync('../../../../../../../etc', at('data/climber'));
  symlinkSync('nowhere', at('data/dangling'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function out(path: string): Promise<{ header: TarHeader; data: string }[]> {
  const stream = new PassThrough();
  const writing = openArchive(root, path)
    .write((bytes) => writeAll(stream, bytes))
    .then(() => stream.end());
  const found: { header: TarHeader; data: string }[] = [];
  for await (const entry of readTar(stream)) {
    let data = '';
    for await (const piece of entry.data()) data += piece.toString();
    found.push({ header: entry.header, data });
  }
  await writing;
  return found;
}

const header = (name: string, more: Partial<TarHeader> = {}): TarHeader => ({
  name,
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: 1_700_000_000,
  ...more,
});

async function put(path: string, entries: (TarHeader | [TarHeader, string])[], options = { noOverwriteDirNonDir: false }): Promise<void> {
  const bytes = entries.map((entry) => {
    const [head, data] = Array.isArray(entry) ? entry : ([entry, ''] as const);
    return Buffer.concat([encodeHeader({ ...head, size: data.length }), Buffer.from(data), Buffer.alloc(paddingBytes(data.length))]);
  });
  await putBytes(path, Buffer.concat([...bytes, Buffer.alloc(1024)]), options);
}

async function putBytes(
  path: string,
  bytes: Buffer,
  options: Parameters<typeof copyIn>[3] = { noOverwriteDirNonDir: false },
): Promise<void> {
  checkDestination(root, path);
  async function* stream(): AsyncGenerator<Buffer> {
    for (let offset = 0; offset < bytes.length; offset += 1000) yield bytes.subarray(offset, offset + 1000);
  }
  await copyIn(root, path, stream(), options);
}

/** Lets a directory and a link to the outside change places, over and over, while `work` is done. */
async function whileSwapping(work: () => Promise<void>): Promise<void> {
  const swapper = new Worker(new URL('./swapper.ts', import.meta.url), { workerData: [at('swapped'), at('elsewhere')] });
  try {
    await once(swapper, 'message');
    await work();
  } finally {
    await swapper.terminate();
  }
}

describe('a directory that is swapped with a link to the outside', () => {
  const times = 100;
  beforeEach(() => {
    mkdirSync(join(directory, 'outside/sub'), { recursive: true });
    for (const path of ['file', 'sub/file']) writeFileSync(join(directory, 'outside', path), 'of the host');
    mkdirSync(at('swapped/sub'), { recursive: true });
    for (const path of ['file', 'sub/file']) writeFileSync(at(`swapped/${path}`), 'inside');
    symlinkSync(join(directory, 'outside'), at('elsewhere'));
  });
  /** What a name that leads nowhere at that moment is answered with. */
  const refusals = /Could not find|not a directory|no such file|file exists|extraction point|ELOOP|EEXIST|ENOENT|ENOTDIR|cannot/i;

  it('never leads a copy out there', async () => {
    let inside = 0;
    await whileSwapping(async () => {
      for (let round = 0; round < times; round++) {
        for (const path of ['/swapped/', '/swapped/sub/file', '/swapped/file']) {
          const found = await out(path).catch((error: unknown) => {
            expect(String(error)).toMatch(refusals);
            return [];
          });
          for (const { data } of found) expect(data).not.toContain('host');
          inside += found.filter(({ data }) => data === 'inside').length;
        }
      }
    });
    expect(inside).toBeGreaterThan(0);
  });

  it('never lets a copy in there', async () => {
    const before = contentOf(join(directory, 'outside'));
    await whileSwapping(async () => {
      for (let round = 0; round < times; round++) {
        const entries: [TarHeader, string][] = ['file', 'sub/file', 'sub/new'].map((name) => [header(name), `round ${round}`]);
        const attempts = [
          put('/swapped', entries),
          put(
            '/',
            entries.map(([head, data]) => [{ ...head, name: `swapped/${head.name}` }, data]),
          ),
        ];
        for (const attempt of attempts) await attempt.catch((error: unknown) => expect(String(error)).toMatch(refusals));
      }
    });
    expect(contentOf(join(directory, 'outside'))).toEqual(before);
    expect(contentOf(directory).filter((path) => !path.startsWith('rootfs'))).toEqual([
      'outside',
      'outside/file',
      'outside/sub',
      'outside/sub/file',
      'secret',
    ]);
  });
});

/** Every path below a directory, with what is in its files. */
function contentOf(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1))
    .sort();
}

describe('sparse entries', () => {
  it.each([
    ["GNU tar's own form", ['--format=gnu']],
    ['pax 0.0', ['--format=pax', '--sparse-version=0.0']],
    ['pax 0.1', ['--format=pax', '--sparse-version=0.1']],
    ['pax 1.0', ['--format=pax', '--sparse-version=1.0']],
  ])('of %s stay what they were, holes and all', async (_form, format) => {
    const source = join(directory, 'source');
    mkdirSync(source);
    const file = openSync(join(source, 'image'), 'w');
    // More stretches than a header and one block can name.
    for (let index = 0; index < 40; index++) writeSync(file, `stretch ${index}`, index * 1024 * 1024 + 12_345);
    ftruncateSync(file, 64 * 1024 * 1024);
    closeSync(file);
    writeFileSync(join(source, 'next'), 'behind it');
    const tar = spawnSync('tar', ['--create', '--sparse', ...format, '-C', source, 'image', 'next'], { maxBuffer: 1 << 28 });
    await putBytes('/tmp', tar.stdout);
    expect(readFileSync(at('tmp/image')).equals(readFileSync(join(source, 'image')))).toBe(true);
    expect(lstatSync(at('tmp/image')).blocks).toBeLessThan(8192);
    expect(readFileSync(at('tmp/next'), 'utf8')).toBe('behind it');
  });

  it('whose map is no map are refused', async () => {
    const pax = (records: string): Buffer => {
      const block = encodeHeader({ ...header('x'), size: records.length });
      block.write('x', 156, 'latin1');
      block.fill(' ', 148, 156);
      block.write(
        `${block
          .reduce((sum, byte) => sum + byte, 0)
          .toString(8)
          .padStart(6, '0')}\0 `,
        148,
        'latin1',
      );
      return Buffer.concat([block, Buffer.from(records), Buffer.alloc(paddingBytes(records.length)), encodeHeader(header('y'))]);
    };
    for (const records of ['25 GNU.sparse.map=0,5,2,9\n', '22 GNU.sparse.major=1\n', '22 GNU.sparse.map=8,9\n21 GNU.sparse.size=3\n'])
      await expect(putBytes('/tmp', pax(records))).rejects.toThrow(/invalid tar header|unexpected EOF/);
  });
});

describe('stat', () => {
  it.each([
    ['/data/file', { name: 'file', size: 5, mode: 0o640, linkTarget: '' }],
    ['data/file', { name: 'file' }],
    ['/data', { name: 'data', mode: 2 ** 31 + 0o755 }],
    ['/data/link', { name: 'link', mode: 2 ** 27 + 0o777, linkTarget: '/data/file' }],
    ['/absolute', { name: 'absolute', linkTarget: '/data' }],
    ['/absolute/', { name: 'absolute', mode: 2 ** 31 + 0o755, linkTarget: '' }],
    ['/absolute/.', { name: '.', mode: 2 ** 31 + 0o755 }],
    ['/absolute/file', { name: 'file', size: 5 }],
    ['/data/climber/passwd', { name: 'passwd', size: 6 }],
    ['/data/dangling', { linkTarget: '/data/nowhere' }],
    ['/../../etc/passwd', { size: 6 }],
    ['/', { name: '/' }],
    ['/.', { name: '.' }],
    ['.', { name: '.' }],
  ])('%s', (path, expected) => {
    expect(statPath(root, path)).toMatchObject(expected);
  });

  it.each(['/data/file/', '/data/file/below'])('says that %s is below no directory', (path) => {
    expect(() => statPath(root, path)).toThrow(`lstat ${path}: not a directory`);
  });

  it.each(['/nothing', '/data/dangling/'])('says that %s is not there', (path) => {
    expect(() => statPath(root, path)).toThrow(`Could not find the file ${path} in container ship`);
  });
});

describe('copying out', () => {
  it('names entries by what was asked for', async () => {
    expect((await out('/data/file')).map(({ header: { name }, data }) => [name, data])).toEqual([['file', 'hello']]);
    expect((await out('/absolute/')).map(({ header }) => header.name).sort()).toEqual(
      ['absolute/', 'absolute/climber', 'absolute/dangling', 'absolute/file', 'absolute/link', 'absolute/sub/'].sort(),
    );
    expect((await out('/data/.')).map(({ header }) => header.name)).toContain('./file');
    for (const path of ['.', '/.', './', '/./']) expect((await out(path)).map(({ header }) => header.name)).toContain('./data/file');
  });

  it('copies a link as a link, even one that leads out', async () => {
    symlinkSync(join(directory, 'secret'), at('data/evil'));
    const [entry] = await out('/data/evil');
    expect(entry?.header).toMatchObject({ type: 'symlink', linkName: join(directory, 'secret') });
    // Followed, it means a path of the container, where nothing is.
    expect(() => openArchive(root, '/data/evil/')).toThrow('Could not find');
  });

  it('keeps owners, special bits, hard links, devices and FIFOs', async () => {
    chownSync(at('data/file'), 12, 34);
    linkSync(at('data/file'), at('data/second'));
    mknod(at('data/null'), 0o20666, 0x103n);
    spawnSync('mkfifo', [at('data/fifo')]);
    const found = new Map((await out('/data')).map(({ header: each }) => [each.name, each]));
    expect(found.get('data/file')).toMatchObject({ uid: 12, gid: 34, mode: 0o640 });
    expect(found.get('data/second')).toMatchObject({ type: 'hardlink', linkName: 'data/file' });
    expect(found.get('data/null')).toMatchObject({ type: 'character', major: 1, minor: 3 });
    expect(found.get('data/fifo')?.type).toBe('fifo');
  });

  it('does not walk into the kernel’s file systems', async () => {
    mkdirSync(at('proc'));
    mount('proc', at('proc'), 'proc');
    try {
      const names = (await out('/')).map(({ header: each }) => each.name);
      expect(names).toContain('/proc/');
      expect(names.some((name) => name.startsWith('/proc/1'))).toBe(false);
      expect(() => openArchive(root, '/proc/version')).toThrow('Could not find');
    } finally {
      umount(at('proc'));
    }
  });

  it('exports the whole root with relative names', async () => {
    const stream = new PassThrough();
    const writing = exportTree(root.path, (bytes) => writeAll(stream, bytes)).then(() => stream.end());
    const names: string[] = [];
    for await (const entry of readTar(stream)) names.push(entry.header.name);
    await writing;
    expect(names).toEqual(expect.arrayContaining(['absolute', 'data/', 'data/file', 'etc/passwd']));
  });
});

describe('copying in', () => {
  it('makes files, directories above them, links, and their attributes', async () => {
    await put('/tmp', [
      [header('a/b/file', { uid: 5, gid: 6, mode: 0o4755 }), 'content'],
      header('a/link', { type: 'symlink', linkName: '../x' }),
      header('a/hard', { type: 'hardlink', linkName: 'a/b/file' }),
      header('dir/', { type: 'directory', mode: 0o700, mtime: 1_600_000_000 }),
      [header('dir/inner'), 'y'],
      header('fifo', { type: 'fifo' }),
      header('null', { type: 'character', major: 1, minor: 3, mode: 0o666 }),
    ]);
    const status = lstatSync(at('tmp/a/b/file'));
    expect([status.uid, status.gid, status.mode & 0o7777, status.mtimeMs]).toEqual([5, 6, 0o4755, 1_700_000_000_000]);
    expect(readFileSync(at('tmp/a/hard'), 'utf8')).toBe('content');
    expect(readlinkSync(at('tmp/a/link'))).toBe('../x');
    expect(lstatSync(at('tmp/dir')).mtimeMs).toBe(1_600_000_000_000);
    expect(lstatSync(at('tmp/dir')).mode & 0o777).toBe(0o700);
    expect(lstatSync(at('tmp/fifo')).isFIFO()).toBe(true);
    expect(lstatSync(at('tmp/null')).rdev).toBe(0x103);
  });

  it('writes a file of many pieces whole', async () => {
    const content = Array.from({ length: 200_000 }, (_, line) => `${line}\n`).join('');
    await put('/tmp', [[header('large'), content]]);
    expect(readFileSync(at('tmp/large'), 'utf8') === content).toBe(true);
  });

  it('follows links of the container inside the container', async () => {
    await put('/absolute', [[header('new'), 'x']]);
    expect(readFileSync(at('data/new'), 'utf8')).toBe('x');
    await put('/data', [[header('climber/made'), 'x']]);
    expect(readFileSync(at('etc/made'), 'utf8')).toBe('x');
  });

  it.each([
    ['a name above', [[header('../../escaped'), 'x']], 'outside of the destination'],
    ['a hard link above', [header('l', { type: 'hardlink', linkName: '../../../secret' })], 'outside of the destination'],
  ] as [string, (TarHeader | [TarHeader, string])[], string][])('refuses %s', async (_, entries, message) => {
    await expect(put('/tmp', entries)).rejects.toThrow(message);
    expect(existsSync(join(directory, 'escaped'))).toBe(false);
  });

  it('cannot be led out by links in the archive itself', async () => {
    const entries: (TarHeader | [TarHeader, string])[] = [
      header('out', { type: 'symlink', linkName: directory }),
      [header('out/escaped'), 'x'],
    ];
    // The link means a directory of the container; where that is absent nothing can be made through it.
    await expect(put('/tmp', entries)).rejects.toThrow('cannot unpack');
    expect(existsSync(join(directory, 'escaped'))).toBe(false);
    await put('/tmp', [header('secret', { type: 'symlink', linkName: join(directory, 'secret') }), [header('secret'), 'overwritten']]);
    expect(readFileSync(join(directory, 'secret'), 'utf8')).toBe('of the host');
    expect(readFileSync(at('tmp/secret'), 'utf8')).toBe('overwritten');
  });

  it('replaces, and with noOverwriteDirNonDir refuses to', async () => {
    await put('/data', [[header('file'), 'new']]);
    expect(readFileSync(at('data/file'), 'utf8')).toBe('new');
    await expect(put('/data', [[header('sub'), 'x']], { noOverwriteDirNonDir: true })).rejects.toThrow(
      'cannot overwrite directory "sub" with non-directory',
    );
    await expect(put('/data', [header('file/', { type: 'directory' })], { noOverwriteDirNonDir: true })).rejects.toThrow(
      'cannot overwrite non-directory "file/"',
    );
    await put('/data', [[header('sub'), 'x']]);
    expect(lstatSync(at('data/sub')).isFile()).toBe(true);
  });

  it('gives everything one owner when told', async () => {
    const bytes = Buffer.concat([encodeHeader(header('owned', { uid: 1 })), Buffer.alloc(1024)]);
    await putBytes('/tmp', bytes, { noOverwriteDirNonDir: false, owner: { uid: 77, gid: 88 } });
    expect([lstatSync(at('tmp/owned')).uid, lstatSync(at('tmp/owned')).gid]).toEqual([77, 88]);
  });

  it('says why not, in Docker’s words', () => {
    expect(() => checkDestination(root, '/nothing')).toThrow('Could not find the file /nothing in container ship');
    expect(() => checkDestination(root, '/data/file')).toThrow('extraction point is not a directory');
    expect(() => checkDestination(root, '/data/file/')).toThrow('lstat /data/file/: not a directory');
    expect(() => checkDestination({ ...root, readOnlyRootfs: true }, '/data')).toThrow('container rootfs is marked read-only');
    const mounts = [{ destination: '/data', rw: false }];
    expect(() => checkDestination({ ...root, mounts }, '/absolute/sub')).toThrow('mounted volume is marked read-only');
    expect(() => checkDestination({ ...root, readOnlyRootfs: true, mounts: [{ destination: '/data', rw: true }] }, '/data')).not.toThrow();
  });

  it('takes compressed archives', async () => {
    const plain = Buffer.concat([encodeHeader(header('packed')), Buffer.alloc(1024)]);
    for (const bytes of [gzipSync(plain), zstdCompressSync(plain), spawnSync('xz', ['-c'], { input: plain }).stdout]) {
      await putBytes('/tmp', bytes);
      expect(existsSync(at('tmp/packed'))).toBe(true);
      rmSync(at('tmp/packed'));
    }
    await expect(putBytes('/tmp', gzipSync(plain).subarray(0, 30))).rejects.toThrow('the archive is damaged');
  });

  it('carries file capabilities over', async () => {
    const value = Buffer.from('0100000200040000000000000000000000000000', 'hex');
    await put('/tmp', [header('capable', { xattrs: new Map([['security.capability', value]]) })]);
    const [entry] = await out('/tmp/capable');
    expect(entry?.header.xattrs?.get('security.capability')?.equals(value)).toBe(true);
  });
});

describe('changes', () => {
  it('are what the overlay’s writable layer says', () => {
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
      string,
    ];
    for (const path of [lower, upper, work, merged, join(lower, 'etc'), join(lower, 'gone'), join(lower, 'kept'), join(lower, 'again')])
      mkdirSync(path);
    for (const path of ['etc/conf', 'gone/file', 'kept/file', 'again/old']) writeFileSync(join(lower, path), 'x');
    mount('overlay', merged, 'overlay', mountFlags.noDev, `lowerdir=${lower},upperdir=${upper},workdir=${work}`);
    try {
      writeFileSync(join(merged, 'etc/conf'), 'changed');
      writeFileSync(join(merged, 'etc/hosts'), '');
      mkdirSync(join(merged, 'proc'));
      writeFileSync(join(merged, 'added'), 'x');
      mkdirSync(join(merged, 'new'));
      writeFileSync(join(merged, 'new/file'), 'x');
      rmSync(join(merged, 'gone'), { recursive: true });
      rmSync(join(merged, 'again'), { recursive: true });
      mkdirSync(join(merged, 'again'));
      const kinds = ['C', 'A', 'D'];
      expect(containerChanges(upper, [lower]).map(({ Kind, Path }) => `${kinds[Kind]} ${Path}`)).toEqual([
        'A /added',
        'C /again',
        'D /again/old',
        'C /etc',
        'C /etc/conf',
        'D /gone',
        'A /new',
        'A /new/file',
      ]);
    } finally {
      umount(merged);
    }
  });
});
