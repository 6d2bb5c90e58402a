/** load, save, import, commit and push: content that leaves is what came. */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { lsetxattr, mknod } from '@flotilla/syscalls';
import {
  buildImage,
  buildTar,
  busyboxImage,
  dockerArchive,
  ociArchive,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestRegistry,
} from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parse, Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;

beforeAll(async () => {
  registry = await startRegistry();
  stack = await Stack.start();
});
afterEach(() => stack.clear());
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

type Inspected = {
  Id: string;
  RepoTags: string[];
  RepoDigests: string[];
  Config: Record<string, unknown>;
  Parent: string;
  RootFS: { Layers: string[] };
  GraphDriver: { Data: { UpperDir: string } };
  Comment: string;
  Author: string;
};

describe('load', () => {
  const compressions: [name: string, compress: (archive: Buffer) => Buffer][] = [
    ['plain', (archive) => archive],
    ['gzip', (archive) => gzipSync(archive)],
    ['zstd', (archive) => zstdCompressSync(archive)],
    ['xz', (archive) => execFileSync('xz', ['-c0'], { input: archive, maxBuffer: 1e9 })],
    ['bzip2', (archive) => execFileSync('bzip2', ['-c1'], { input: archive, maxBuffer: 1e9 })],
  ];
  it.each(compressions)('reads what docker save writes, %s', async (_name, compress) => {
    const image = await buildImage({
      layers: [[{ path: 'a', content: randomBytesOf(100_000) }], [{ path: 'b', content: 'b' }]],
      config: { Cmd: ['/a'] },
    });
    const lines = await stack.load(compress(await dockerArchive([{ image, tags: ['loaded:1', 'loaded:2'] }])));
    expect(lines).toEqual([{ stream: 'Loaded image: loaded:1\n' }, { stream: 'Loaded image: loaded:2\n' }]);
    expect(await stack.inspect('loaded:2')).toMatchObject({
      Id: image.id,
      RepoTags: ['loaded:1', 'loaded:2'],
      RepoDigests: [],
      Config: { Cmd: ['/a'] },
    });
  });

  it('reads an OCI layout, and an image without a name', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]], format: 'oci' });
    expect(await stack.load(await ociArchive([{ image, tags: ['docker.io/library/oci:1'] }]))).toEqual([
      { stream: 'Loaded image: oci:1\n' },
    ]);
    await stack.clear();
    expect(await stack.load(await ociArchive([{ image, tags: [] }]))).toEqual([{ stream: `Loaded image ID: ${image.id}\n` }]);
  });

  it('shows bars unless quiet, and says when a name moves', async () => {
    const [one, two] = [
      await buildImage({ layers: [[{ path: 'a', content: '1' }]] }),
      await buildImage({ layers: [[{ path: 'a', content: '2' }]] }),
    ];
    const lines = await stack.load(await dockerArchive([{ image: one, tags: ['moves:latest'] }]), false);
    expect(lines[0]).toMatchObject({ status: 'Loading layer', id: one.layers[0]?.diffId.slice(7, 19) });
    const moved = await stack.load(await dockerArchive([{ image: two, tags: ['moves:latest'] }]));
    expect(moved[0]?.stream).toBe(`The image moves:latest already exists, renaming the old one with ID ${one.id} to empty string\n`);
    expect((await stack.list({ dangling: ['true'] })).map((image) => image.Id)).toEqual([one.id]);
  });
});

describe('save', () => {
  it('writes what load reads, with every digest as it was', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'x', content: 'x' }]], format: 'oci' });
    const pinned = await pushImage(image, { address: registry.address, repository: 'saved', tag: 'latest' });
    await stack.pull(`${registry.address}/saved`);
    const archive = await stack.save(`${registry.address}/saved:latest`);
    await stack.clear();
    await stack.load(archive);
    expect((await stack.inspect<Inspected>(image.id)).RepoTags).toEqual([`${registry.address}/saved:latest`]);
    // Pushed again, it is the same manifest.
    const lines = await stack.push(`${registry.address}/saved`, 'latest');
    expect(lines.find((line) => line.status?.startsWith('latest: digest:'))?.status).toContain(pinned.split('@')[1]);
    const names = execFileSync('tar', ['-t'], { input: archive, encoding: 'utf8' }).split('\n');
    expect(names).toEqual(expect.arrayContaining(['manifest.json', 'index.json', 'oci-layout', 'repositories']));
    const listing = execFileSync('tar', ['-tv'], { input: archive, encoding: 'utf8', env: { ...process.env, TZ: 'UTC' } });
    expect(listing).toMatch(new RegExp(` 2024-01-01 00:00 blobs/sha256/${image.id.slice(7)}`));
    await expect(stack.save('nothing')).rejects.toMatchObject({ kind: 'NotFound', message: 'No such image: nothing:latest' });
  });
});

describe('import', () => {
  it.each(['plain', 'gzip', 'xz'])('makes an image of a root file system, %s', async (kind) => {
    const tar = await buildTar([{ path: 'bin/' }, { path: 'bin/sh', content: '#!', mode: 0o755 }]);
    const archive = kind === 'gzip' ? gzipSync(tar) : kind === 'xz' ? execFileSync('xz', ['-c'], { input: tar }) : tar;
    const lines = await stack.import(archive, 'imported:v1', [
      'CMD ["/bin/sh"]',
      'ENV A="b c" D=e',
      'EXPOSE 80 53/udp',
      'LABEL x=y',
      'WORKDIR /w',
      'USER 1',
    ]);
    const inspected = await stack.inspect<Inspected>('imported:v1');
    expect(lines).toEqual([{ status: inspected.Id }]);
    expect(inspected.Config).toEqual({
      Cmd: ['/bin/sh'],
      Env: ['A=b c', 'D=e'],
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Labels: { x: 'y' },
      WorkingDir: '/w',
      User: '1',
    });
    expect(inspected.Comment).toBe('Imported from -');
    expect(readFileSync(join(inspected.GraphDriver.Data.UpperDir, 'bin/sh'), 'utf8')).toBe('#!');
  });

  it('refuses instructions that make no sense', async () => {
    await expect(stack.import(Buffer.alloc(0), 'x', ['RUN true'])).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'run is not a valid change command',
    });
  });
});

describe('commit', () => {
  it('makes the writable layer the top of a new image, whiteouts and all', async () => {
    const image = await buildImage({
      layers: [[{ path: 'etc/' }, { path: 'etc/old', content: 'x' }]],
      config: { Cmd: ['a'], Env: ['A=1'] },
    });
    await stack.load(await dockerArchive([{ image, tags: ['base:latest'] }]));
    const { mounts } = await stack.snapshots.prepare({ key: 'c1', imageId: image.id });
    const upper = mounts?.upperDir ?? '';
    execFileSync('mkdir', ['-p', join(upper, 'etc'), join(upper, 'opaque')]);
    mknod(join(upper, 'etc/old'), 0o020000, 0n);
    lsetxattr(join(upper, 'opaque'), 'trusted.overlay.opaque', 'y');
    writeFileSync(join(upper, 'new'), 'new');
    chmodSync(join(upper, 'new'), 0o4711);
    writeFileSync(join(upper, 'n'.repeat(180)), 'long name');
    symlinkSync('new', join(upper, 'link'));
    const { id } = await stack.images.commit({
      snapshotKey: 'c1',
      repository: 'made',
      tag: 'v1',
      comment: 'why',
      author: 'me',
      changes: ['CMD ["b"]'],
      configJson: Buffer.alloc(0),
      containerConfigJson: Buffer.from(JSON.stringify({ Cmd: ['a'], Env: ['A=1'], Hostname: 'h', Labels: { l: '1' } })),
    });
    const made = await stack.inspect<Inspected>('made:v1');
    expect(made).toMatchObject({
      Id: id,
      Parent: image.id,
      Author: 'me',
      Comment: 'why',
      Config: { Cmd: ['b'], Env: ['A=1'], Labels: { l: '1' } },
    });
    expect(made.RootFS.Layers).toHaveLength(2);
    const top = made.GraphDriver.Data.UpperDir;
    expect(readdirSync(top).sort()).toEqual(['etc', 'link', 'new', 'n'.repeat(180), 'opaque']);
    expect(execFileSync('stat', ['-c', '%F %t,%T', join(top, 'etc/old')], { encoding: 'utf8' })).toBe('character special file 0,0\n');
    expect(execFileSync('stat', ['-c', '%a', join(top, 'new')], { encoding: 'utf8' })).toBe('4711\n');
    const { historyJson } = await stack.images.history({ image: 'made:v1', platform: '' });
    expect(parse<{ Id: string; Comment: string }[]>(historyJson).map((step) => [step.Id, step.Comment])).toEqual([
      [id, 'why'],
      [image.id, ''],
    ]);
    // The base is what the new image was made from: it stays while that one does.
    await stack.snapshots.remove({ key: 'c1' });
    await expect(stack.remove(image.id)).rejects.toMatchObject({
      kind: 'Conflict',
      message: expect.stringContaining('image has dependent child images'),
    });
    const items = await stack.remove('made:v1');
    expect(items[0]).toEqual({ Untagged: 'made:v1' });
    expect(await stack.list()).toHaveLength(1);
  });
});

describe('a removed file', () => {
  it('is no reason to fail for others', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]] });
    await stack.load(await dockerArchive([{ image, tags: ['lost:latest'] }]));
    rmSync(join(stack.dataRoot, 'blobs/sha256', image.layers[0]?.diffId.slice(7) ?? ''));
    expect((await stack.inspect<Inspected>('lost')).Id).toBe(image.id);
    await stack.load(await dockerArchive([{ image, tags: ['lost:again'] }]));
    expect((await stack.save('lost:again')).length).toBeGreaterThan(1024);
  });
});
