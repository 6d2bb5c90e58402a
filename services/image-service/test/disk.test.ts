/** The check of the disk (`flotilla doctor --disk`): damage and orphans are told, and mended where they can be. A disk that is nearly full. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DiskFinding } from '@flotilla/contracts/flotilla/image/v1/disk';
import {
  buildImage,
  buildTar,
  dockerArchive,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestImage,
  type TestRegistry,
} from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;
let image: TestImage;
let name: string;

beforeAll(async () => {
  registry = await startRegistry();
  stack = await Stack.start();
  image = await buildImage({
    layers: [
      [{ path: 'bin/tool', content: randomBytesOf(50_000), mode: 0o4755, uid: 10 }],
      [{ path: 'etc/' }, { path: 'etc/app', content: 'key=value' }, { path: 'etc/link', target: 'app' }],
    ],
  });
  await pushImage(image, { address: registry.address, repository: 'checked', tag: 'latest' });
  name = `${registry.address}/checked`;
});
beforeEach(async () => {
  await stack.pull(name, { tag: 'latest' });
});
afterEach(() => stack.clear());
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

async function check(repair = false): Promise<{ found: DiskFinding[]; summary: string }> {
  const found: DiskFinding[] = [];
  for await (const finding of stack.disk.check({ repair }, { signal: AbortSignal.timeout(30_000) })) found.push(finding);
  const last = found.pop();
  return { found, summary: last?.detail ?? '' };
}

/** What was found, as kind and first words. */
async function findings(repair = false): Promise<string[]> {
  return (await check(repair)).found.map(({ kind, detail, repaired }) => `${kind} ${detail}${repaired ? ' (repaired)' : ''}`);
}

const hex = (digest: string | undefined): string => (digest ?? '').slice('sha256:'.length);
const blob = (digest: string | undefined): string => join(stack.dataRoot, 'blobs/sha256', hex(digest));
const layer = (index: number): string => join(stack.dataRoot, 'layers', hex(image.layers[index]?.diffId), 'diff');

describe('a store', () => {
  it('that is sound has no findings', async () => {
    const { found, summary } = await check();
    expect(found).toEqual([]);
    expect(summary).toMatch(/^\d+ blobs and layers are sound, 0 findings/);
  });

  it('tells of a damaged blob; repaired, a pull brings it again', async () => {
    const path = blob(image.layers[0]?.digest);
    writeFileSync(path, Buffer.alloc(10));
    expect(await findings()).toEqual([
      'blob is not what its digest says: pull or load its image again',
      'layer has no sound blob to be compared with: pull or load its image again',
    ]);
    expect(await findings(true)).toContain('blob is not what its digest says: pull or load its image again (repaired)');
    expect(existsSync(path)).toBe(false);
    await stack.pull(name, { tag: 'latest' });
    expect(await findings()).toEqual([]);
  });

  it.each<[string, (root: string) => void, string]>([
    ['content', (root) => writeFileSync(join(root, 'etc/app'), 'key=other'), 'etc/app has other content'],
    ['size', (root) => writeFileSync(join(root, 'etc/app'), ''), 'etc/app has 0 bytes, not 9'],
    ['mode', (root) => chmodSync(join(root, 'etc/app'), 0o600), 'etc/app has mode 100600, not 100644'],
    ['a file too few', (root) => rmSync(join(root, 'etc/link')), 'etc/link is missing'],
    ['a file too many', (root) => writeFileSync(join(root, 'etc/more'), ''), 'etc/more does not belong there'],
    ['everything', (root) => rmSync(join(root, '..'), { recursive: true }), 'is missing'],
  ])('extracts a layer anew: %s', async (_what, damage, detail) => {
    damage(layer(1));
    expect(await findings()).toEqual([`layer ${detail}`]);
    expect(await findings(true)).toEqual([`layer ${detail} (repaired)`]);
    expect(await findings()).toEqual([]);
  });

  it('leaves a layer that a container stands on', async () => {
    await stack.snapshots.prepare({ key: 'container', imageId: image.id });
    chmodSync(join(layer(1), 'etc/app'), 0o600);
    expect(await findings(true)).toEqual([
      'layer etc/app has mode 100600, not 100644: remove the containers that stand on it, then repair',
    ]);
    await stack.snapshots.remove({ key: 'container' });
    expect(await findings(true)).toEqual(['layer etc/app has mode 100600, not 100644 (repaired)']);
  });

  it("names what is nobody's, and removes it when it is told to", async () => {
    const orphans = {
      blob: blob(`sha256:${'1'.repeat(64)}`),
      layer: join(stack.dataRoot, 'layers', '2'.repeat(64)),
      download: join(stack.dataRoot, 'ingest', `sha256-${'3'.repeat(64)}`),
      snapshot: join(stack.dataRoot, 'snapshots/nobody'),
    };
    for (const [kind, path] of Object.entries(orphans)) {
      if (['layer', 'snapshot'].includes(kind)) mkdirSync(join(path, 'diff'), { recursive: true });
      else writeFileSync(path, 'x');
      utimesSync(path, 1, 1);
    }
    const expected = ['layer', 'blob', 'download', 'snapshot'].map((kind) => `${kind} is known to no record`);
    // A blob whose name is not its content's digest is damaged as well.
    expect((await findings()).slice(1)).toEqual(expected);
    await findings(true);
    for (const path of Object.values(orphans)) expect(existsSync(path), path).toBe(false);
    expect(await findings()).toEqual([]);
  });

  it('keeps what a pull is about to use', async () => {
    await stack.clear();
    const loaded = stack.load(await dockerArchive([{ image, tags: ['again:1'] }]));
    await findings(true);
    expect((await loaded).at(-1)?.error).toBeUndefined();
    expect(await findings()).toEqual([]);
    expect(readdirSync(layer(1))).toEqual(['etc']);
  });
});

describe('on a disk that is nearly full', () => {
  const megabyte = 1024 * 1024;
  let small: Stack;
  let zeros: TestImage;

  beforeAll(async () => {
    small = await Stack.start({
      prepare: (dataRoot) => {
        mkdirSync(dataRoot, { recursive: true });
        // 256 MiB of any disk are left to others.
        execFileSync('mount', ['-t', 'tmpfs', '-o', `mode=711,size=${316 * megabyte}`, 'tmpfs', dataRoot]);
      },
    });
    zeros = await buildImage({ layers: [[{ path: 'zeros', content: Buffer.alloc(10 * megabyte) }]] });
    await pushImage(zeros, { address: registry.address, repository: 'zeros', tag: 'latest' });
  });
  afterAll(async () => {
    execFileSync('umount', ['--lazy', small.dataRoot]);
    await small.stop();
  });
  beforeEach(() => small.clear());

  const file = { path: 'zeros', content: Buffer.alloc(10 * megabyte) };

  it.each<[string, () => Promise<string | undefined>]>([
    ['a pull', async () => (await small.pull(`${registry.address}/zeros`)).at(-1)?.error],
    ['a load', async () => (await small.load(await dockerArchive([{ image: zeros, tags: ['zeros:1'] }]))).at(-1)?.error],
    ['an import', async () => (await small.import(await buildTar([file]), 'imported:1')).at(-1)?.error],
    [
      'a build',
      async () => {
        const Dockerfile = { path: 'Dockerfile', content: 'FROM scratch\nCOPY zeros /\n' };
        return (await small.build(await buildTar([Dockerfile, file]), { tags: ['built:1'] })).at(-1)?.error;
      },
    ],
    ['a commit', async () => committed('nearly-full')],
  ])('%s waits for what was removed before it', async (_what, work) => {
    // What a removal has put aside, and nobody has begun to delete.
    const removed = join(small.dataRoot, 'trash/removed');
    await small.import(await buildTar([{ path: 'base', content: 'base' }]), 'nearly-full:latest');
    writeFileSync(removed, Buffer.alloc(55 * megabyte));
    expect(await work()).toBeUndefined();
    expect(existsSync(removed)).toBe(false);
    expect(await small.findings()).toEqual([]);
  });

  async function committed(base: string): Promise<undefined> {
    const { Id: imageId } = await small.inspect<{ Id: string }>(base);
    const { mounts } = await small.snapshots.prepare({ key: 'writer', imageId });
    writeFileSync(join(mounts?.upperDir ?? '', 'written'), Buffer.alloc(4 * megabyte));
    await small.images.commit({
      snapshotKey: 'writer',
      repository: 'committed',
      tag: '1',
      comment: '',
      author: '',
      changes: [],
      configJson: Buffer.alloc(0),
      containerConfigJson: Buffer.alloc(0),
    });
  }
});
