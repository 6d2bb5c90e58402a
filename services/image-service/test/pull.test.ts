import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@flotilla/oci';
import { lgetxattr } from '@flotilla/syscalls';
import {
  assembleImage,
  buildImage,
  buildIndex,
  buildLayer,
  busyboxImage,
  dockerArchive,
  opaque,
  pushImage,
  randomBytesOf,
  startRegistry,
  startStaticRegistry,
  type TestRegistry,
  waitFor,
  whiteout,
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

describe('pull', () => {
  it("brings an image with dockerd's lines, and knows it the second time", async () => {
    const image = await busyboxImage();
    const pinned = await pushImage(image, { address: registry.address, repository: 'lib/busybox', tag: 'one' });
    const name = `${registry.address}/lib/busybox`;
    const lines = await stack.pull(name, { tag: 'one' });
    const short = image.layers[0]?.digest.slice(7, 19);
    expect(lines[0]).toEqual({ status: 'Pulling from lib/busybox', id: 'one' });
    const ofLayer = lines.filter((line) => line.id === short).map((line) => line.status);
    expect(ofLayer[0]).toBe('Pulling fs layer');
    expect(ofLayer).toEqual(expect.arrayContaining(['Downloading', 'Verifying Checksum', 'Download complete', 'Extracting']));
    expect(ofLayer.at(-1)).toBe('Pull complete');
    expect(lines.slice(-2)).toEqual([
      { status: `Digest: ${image.manifestDescriptor.digest}` },
      { status: `Status: Downloaded newer image for ${name}:one` },
    ]);
    const again = await stack.pull(name, { tag: 'one' });
    expect(again.map((line) => line.status)).toEqual([
      'Pulling from lib/busybox',
      `Digest: ${image.manifestDescriptor.digest}`,
      `Status: Image is up to date for ${name}:one`,
    ]);
    const inspected = await stack.inspect(`${name}:one`);
    expect(inspected).toMatchObject({
      Id: image.id,
      RepoTags: [`${name}:one`],
      RepoDigests: [pinned],
      RootFS: { Type: 'layers', Layers: image.layers.map((layer) => layer.diffId) },
      GraphDriver: { Name: 'overlay2' },
    });
    expect((await stack.list())[0]).toMatchObject({ Id: image.id, RepoTags: [`${name}:one`], RepoDigests: [pinned] });
    // By digest: the same image, and no new tag.
    await stack.pull(`${name}@${image.manifestDescriptor.digest}`);
    expect((await stack.inspect(image.id)).RepoTags).toEqual([`${name}:one`]);
  });

  it('chooses the platform of an index, and keeps the index as its digest', async () => {
    const [mine, other] = [
      await buildImage({ layers: [[{ path: 'mine', content: '1' }]] }),
      await buildImage({ layers: [[{ path: 'other', content: '2' }]], architecture: 's390x' }),
    ];
    const index = buildIndex([other, mine]);
    await pushImage(index, { address: registry.address, repository: 'multi', tag: 'latest' });
    await stack.pull(`${registry.address}/multi`);
    expect(await stack.inspect(`${registry.address}/multi`)).toMatchObject({
      Id: mine.id,
      RepoDigests: [`${registry.address}/multi@${index.descriptor.digest}`],
    });
    await stack.pull(`${registry.address}/multi`, { platform: 'linux/s390x' });
    expect((await stack.inspect(`${registry.address}/multi`)).Id).toBe(other.id);
    const only = await pushImage(other, { address: registry.address, repository: 'only', tag: 'latest' });
    const warned = await stack.pull(only, { platform: 'linux/riscv64' });
    expect(warned.at(-1)?.status).toMatch(
      /^WARNING: image with reference .* \(linux\/s390x\) does not match the specified platform \(linux\/riscv64\)$/,
    );
    await expect(stack.pull(`${registry.address}/multi`, { platform: 'linux/riscv64' })).rejects.toMatchObject({
      kind: 'NotFound',
      message: 'no matching manifest for linux/riscv64 in the manifest list entries',
    });
  });

  it("refuses what is not there in dockerd's words", async () => {
    await pushImage(await buildImage({ layers: [[{ path: 'a', content: 'a' }]] }), {
      address: registry.address,
      repository: 'x',
      tag: 'yes',
    });
    await expect(stack.pull(`${registry.address}/x`, { tag: 'nope' })).rejects.toMatchObject({
      kind: 'NotFound',
      message: `manifest for ${registry.address}/x:nope not found: manifest unknown: manifest unknown`,
    });
    await expect(stack.pull('Busybox')).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'invalid reference format: repository name (library/Busybox) must be lowercase',
    });
    await expect(stack.pull('127.0.0.1:1/x')).rejects.toThrow(/connection refused/);
  });

  it.each(['gzip', 'zstd', 'none'] as const)('reads layers of compression %s', async (compression) => {
    const image = await buildImage({
      layers: [[{ path: 'data', content: randomBytesOf(300_000, compression) }]],
      compression,
      format: 'oci',
    });
    await pushImage(image, { address: registry.address, repository: `c-${compression}`, tag: 'latest' });
    await stack.pull(`${registry.address}/c-${compression}`);
    const upper = (await stack.inspect<{ GraphDriver: { Data: { UpperDir: string } } }>(image.id)).GraphDriver.Data.UpperDir;
    expect(readFileSync(join(upper, 'data')).equals(randomBytesOf(300_000, compression))).toBe(true);
  });

  it('brings a large layer through a worker, and two pulls share it', async () => {
    const image = await buildImage({ layers: [[{ path: 'big', content: randomBytesOf(12_000_000) }], [{ path: 'small', content: 'x' }]] });
    await pushImage(image, { address: registry.address, repository: 'big', tag: 'a' });
    await pushImage(image, { address: registry.address, repository: 'big', tag: 'b' });
    const before = registry.requests().length;
    await Promise.all([stack.pull(`${registry.address}/big`, { tag: 'a' }), stack.pull(`${registry.address}/big`, { tag: 'b' })]);
    const blob = registry
      .requests()
      .slice(before)
      .filter((request) => request.method === 'GET' && request.path.includes(image.layers[0]?.digest ?? '?'));
    expect(blob).toHaveLength(1);
    expect((await stack.inspect(image.id)).RepoTags).toEqual([`${registry.address}/big:a`, `${registry.address}/big:b`]);
    const { mounts } = await stack.snapshots.prepare({ key: 'k1', imageId: image.id });
    // Below both: what every container has.
    expect(mounts?.lowerDirs).toHaveLength(3);
    expect(readdirSync(mounts?.lowerDirs[2] ?? '')).toContain('.dockerenv');
    expect(statSync(join(mounts?.lowerDirs[1] ?? '', 'big')).size).toBe(12_000_000);
  });

  it("turns whiteouts into overlay's own, with modes, owners, links and times", async () => {
    const image = await buildImage({
      layers: [
        [{ path: 'etc/' }, { path: 'etc/gone', content: 'x' }, { path: 'dir/' }, { path: 'dir/old', content: 'x' }],
        [
          whiteout('etc/gone'),
          { path: 'dir/' },
          opaque('dir'),
          { path: 'dir/new', content: 'y', mode: 0o4755, uid: 12, gid: 34 },
          { path: 'hard', type: 'link', target: 'dir/new' },
          { path: 'lib', target: 'usr/lib' },
          { path: 'usr/lib/' },
          { path: 'lib/through', content: 'z' },
          { path: 'null', type: 'character-device', device: { major: 1, minor: 3 }, mode: 0o666 },
          { path: 'abs', target: '/etc/passwd' },
        ],
      ],
    });
    await pushImage(image, { address: registry.address, repository: 'whiteouts', tag: 'latest' });
    await stack.pull(`${registry.address}/whiteouts`);
    const { UpperDir: top } = (await stack.inspect<{ GraphDriver: { Data: { UpperDir: string } } }>(image.id)).GraphDriver.Data;
    const gone = lstatSync(join(top, 'etc/gone'));
    expect([gone.isCharacterDevice(), gone.rdev]).toEqual([true, 0]);
    expect(lgetxattr(join(top, 'dir'), 'trusted.overlay.opaque')?.toString()).toBe('y');
    const file = lstatSync(join(top, 'dir/new'));
    expect([file.mode & 0o7777, file.uid, file.gid, file.nlink, file.mtimeMs]).toEqual([0o4755, 12, 34, 2, 0]);
    expect(readFileSync(join(top, 'usr/lib/through'), 'utf8')).toBe('z');
    expect(lstatSync(join(top, 'null')).rdev).toBe(0x103);
    expect(lstatSync(join(top, 'abs')).isSymbolicLink()).toBe(true);
  });

  it('refuses a layer that is said to be larger than the disk, before it fills it', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: randomBytesOf(5000) }]] });
    const manifest = JSON.parse(image.manifest.toString()) as { layers: { size: number }[] };
    manifest.layers = manifest.layers.map((layer) => ({ ...layer, size: 2 ** 40 }));
    const bytes = Buffer.from(JSON.stringify(manifest));
    const descriptor = { ...image.manifestDescriptor, digest: digestOf(bytes), size: bytes.length };
    const vast = { ...image, manifest: bytes, manifestDescriptor: descriptor, blobs: new Map([...image.blobs, [digestOf(bytes), bytes]]) };
    await pushImage(vast, { address: registry.address, repository: 'vast', tag: 'latest' });
    const lines = await stack.pull(`${registry.address}/vast`);
    expect(lines.at(-1)?.error).toBe(`no space left on device: there is no room for the ${2 ** 40} bytes of the layer's blob`);
    expect(readdirSync(join(stack.dataRoot, 'ingest'))).toEqual([]);
    expect(readdirSync(join(stack.dataRoot, 'layers'))).toEqual([]);
  });

  it('keeps the blobs of a layer that it found here, though the image that brought them is removed meanwhile', async () => {
    const lying = await startStaticRegistry();
    try {
      const base = await buildLayer([{ path: 'base', content: 'base' }]);
      const own = await buildLayer([{ path: 'own', content: randomBytesOf(200_000) }]);
      const image = assembleImage([base, own]);
      lying.add('shared', 'latest', image);
      // The archive has the layer as a plain tar, the registry compressed.
      await stack.load(await dockerArchive([{ image: assembleImage([base]), tags: ['base:1'] }]));
      lying.misbehave([{ path: own.digest, cutAfterBytes: 100_000 }]);
      const pulled = stack.pull(`${lying.address}/shared`);
      const partial = join(stack.dataRoot, 'ingest', own.digest.replace(':', '-'));
      await waitFor(() => existsSync(partial), { what: 'a part of the other layer' });
      await stack.remove('base:1');
      lying.misbehave([]);
      expect((await pulled).at(-1)?.status).toMatch(/^Status: Downloaded/);
      expect(await stack.findings()).toEqual([]);
      const archive = await stack.save(`${lying.address}/shared`);
      await stack.clear();
      expect(readdirSync(join(stack.dataRoot, 'blobs/sha256'))).toEqual([]);
      await stack.load(archive);
      expect((await stack.inspect(image.id)).Id).toBe(image.id);
    } finally {
      await lying.stop();
    }
  });

  it('pulls every tag when asked', async () => {
    const images = [
      await buildImage({ layers: [[{ path: 'a', content: '1' }]] }),
      await buildImage({ layers: [[{ path: 'a', content: '2' }]] }),
    ];
    for (const [i, image] of images.entries()) await pushImage(image, { address: registry.address, repository: 'tags', tag: `v${i}` });
    await stack.pull(`${registry.address}/tags`, { allTags: true });
    const tags = (await stack.list()).flatMap((image) => image.RepoTags);
    expect(tags.sort()).toEqual([`${registry.address}/tags:v0`, `${registry.address}/tags:v1`]);
  });

  it('leaves nothing when the images are removed', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'more', content: 'more' }]] });
    await pushImage(image, { address: registry.address, repository: 'gone', tag: 'latest' });
    await stack.pull(`${registry.address}/gone`);
    const items = await stack.remove(`${registry.address}/gone`);
    expect(items.map((item) => Object.keys(item)[0])).toEqual(['Untagged', 'Untagged', 'Deleted', 'Deleted', 'Deleted']);
    for (const folder of ['layers', 'blobs/sha256', 'ingest', 'snapshots']) expect(readdirSync(join(stack.dataRoot, folder))).toEqual([]);
    expect(readdirSync(join(stack.dataRoot, 'l')).filter((name) => name !== 'empty' && name !== 'init')).toEqual([]);
    expect(existsSync(join(stack.dataRoot, 'blobs'))).toBe(true);
  });
});

describe('an index', () => {
  it('of several platforms with attestations: one is brought, all are told', async () => {
    const own = await buildImage({ layers: [[{ path: 'own', content: 'own' }]], format: 'oci' });
    const other = await buildImage({ layers: [[{ path: 'other', content: 'other' }]], format: 'oci', architecture: 's390x' });
    const plain = await buildImage({ layers: [[{ path: 'attestation', content: '{}' }]], format: 'oci', architecture: 'unknown' });
    const attestation = {
      ...plain,
      manifestDescriptor: {
        ...plain.manifestDescriptor,
        platform: { architecture: 'unknown', os: 'unknown' },
        annotations: {
          'vnd.docker.reference.type': 'attestation-manifest',
          'vnd.docker.reference.digest': own.manifestDescriptor.digest,
        },
      },
    };
    const index = buildIndex([other, attestation, own]);
    await pushImage(index, { address: registry.address, repository: 'attested', tag: 'latest' });
    await stack.pull(`${registry.address}/attested`);
    const inspect = async (manifests: boolean): Promise<Record<string, unknown>> =>
      parse((await stack.images.inspect({ image: `${registry.address}/attested`, manifests, platform: '' })).imageJson);
    const descriptor = { mediaType: index.descriptor.mediaType, digest: index.descriptor.digest, size: index.descriptor.size };
    expect(await inspect(false)).toMatchObject({ Id: own.id, Descriptor: descriptor });
    expect(await inspect(false)).not.toHaveProperty('Manifests');
    const manifests = (await inspect(true)).Manifests;
    const size = own.layers[0]?.bytes.length ?? 0;
    expect(manifests).toMatchObject([
      { ID: other.manifestDescriptor.digest, Kind: 'image', Available: false, Size: { Content: 0, Total: 0 } },
      { ID: attestation.manifestDescriptor.digest, Kind: 'attestation', AttestationData: { For: own.manifestDescriptor.digest } },
      {
        ID: own.manifestDescriptor.digest,
        Kind: 'image',
        Available: true,
        Size: { Content: size + own.config.length + own.manifest.length, Total: size + own.config.length + own.manifest.length + 3 },
        ImageData: { Platform: { os: 'linux' }, Containers: [], Size: { Unpacked: 3 } },
      },
    ]);
    const list = { all: false, filters: {}, sharedSize: false, digests: false, manifests: true };
    const [listed] = parse<{ Manifests: unknown; Descriptor: unknown }[]>((await stack.images.list(list)).imagesJson);
    expect(listed?.Manifests).toEqual(manifests);
    expect(listed?.Descriptor).toEqual(descriptor);
    // By the index' own digest, and of another platform.
    await stack.pull(`${registry.address}/attested@${index.descriptor.digest}`, { platform: 'linux/s390x' });
    expect((await stack.inspect(other.id)).Architecture).toBe('s390x');
  });
});
