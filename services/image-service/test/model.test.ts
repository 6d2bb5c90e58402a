/** Pulls, loads, tags, removals, prunes and snapshots in any order, two at a time: nothing in use ever goes, nothing unused stays. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { assembleImage, buildLayer, dockerArchive, pushImage, startRegistry, type TestImage, type TestRegistry } from '@flotilla/testkit';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;
let images: TestImage[];
let archives: Buffer[];

beforeAll(async () => {
  registry = await startRegistry();
  stack = await Stack.start();
  const layers = await Promise.all(
    ['base', 'one', 'two', 'top', 'own0', 'own1', 'own2', 'own3'].map((name) => buildLayer([{ path: name, content: name }])),
  );
  // Layers shared in every way, and one of each image's own.
  const stacks = [
    [0, 4],
    [0, 1, 5],
    [0, 1, 3, 6],
    [0, 2, 3, 7],
  ];
  images = stacks.map((indexes) => assembleImage(indexes.flatMap((index) => layers[index] ?? [])));
  archives = await Promise.all(images.map((image, i) => dockerArchive([{ image, tags: [`loaded:${i}`] }])));
  for (const [i, image] of images.entries()) await pushImage(image, { address: registry.address, repository: 'model', tag: `v${i}` });
});
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

const which = fc.nat(3);
const name = fc.oneof(
  which.map((i) => `loaded:${i}`),
  which.map((i) => `tagged:${i}`),
  which.map((i) => ({ pulled: i })),
  which.map((i) => ({ id: i })),
);
const key = fc.nat(1);
const operation = fc.oneof(
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('load' as const), image: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pull' as const), image: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tag' as const), name, tag: which }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('remove' as const), name, force: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('prune' as const), all: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('prepare' as const), key, image: which }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), key }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;
type Name = typeof name extends fc.Arbitrary<infer T> ? T : never;

function written(each: Name): string {
  if (typeof each === 'string') return each;
  return 'id' in each ? (images[each.id]?.id ?? '') : `${registry.address}/model:v${each.pulled}`;
}

/** Does it; what the state forbids is refused, and that is no fault here. */
async function run(each: Operation): Promise<void> {
  try {
    await act(each);
  } catch (error) {
    const { kind } = error as { kind?: string };
    expect(['NotFound', 'Conflict', 'InvalidParameter'], String(error)).toContain(kind);
  }
}

async function act(each: Operation): Promise<void> {
  switch (each.kind) {
    case 'load': {
      const lines = await stack.load(archives[each.image] ?? Buffer.alloc(0));
      expect(lines.at(-1)?.stream).toBe(`Loaded image: loaded:${each.image}\n`);
      return;
    }
    case 'pull': {
      const lines = await stack.pull(`${registry.address}/model`, { tag: `v${each.image}` });
      expect(lines.at(-1)?.status).toMatch(/^Status: /);
      return;
    }
    case 'tag':
      await stack.images.tag({ image: written(each.name), repository: 'tagged', tag: `${each.tag}` });
      return;
    case 'remove':
      await stack.remove(written(each.name), { force: each.force });
      return;
    case 'prune':
      await stack.images.prune({ filters: each.all ? { dangling: { values: ['false'] } } : {} });
      return;
    case 'prepare': {
      const imageId = images[each.image]?.id ?? '';
      await stack.snapshots.prepare({ key: `s${each.key}`, imageId });
      if (!stack.containers.some((container) => container.Id === `s${each.key}`)) {
        stack.containers.push({ Id: `s${each.key}`, ImageID: imageId, State: 'exited' });
      }
      return;
    }
    case 'release':
      stack.containers = stack.containers.filter((container) => container.Id !== `s${each.key}`);
      await stack.snapshots.remove({ key: `s${each.key}` });
  }
}

/** Compares the disk with what is listed and prepared. */
async function verify(): Promise<void> {
  const layers = new Set<string>();
  const blobs = new Set<string>();
  for (const { Id } of await stack.list({}, true)) {
    const image = images.find((each) => each.id === Id);
    expect(image).toBeDefined();
    blobs.add(Id).add(image?.manifestDescriptor.digest ?? '');
    for (const layer of image?.layers ?? []) layers.add(layer.diffId);
  }
  for (const key of readdirSync(join(stack.dataRoot, 'snapshots'))) {
    const { mounts } = await stack.snapshots.mounts({ key });
    for (const lower of mounts?.lowerDirs ?? []) {
      expect(statSync(lower).isDirectory()).toBe(true);
      const layer = images
        .flatMap((image) => image.layers)
        .find((each) => readdirSync(lower).length === 1 && linkOf(each.diffId) === inode(lower));
      if (layer !== undefined) layers.add(layer.diffId);
    }
  }
  for (const layer of images.flatMap((image) => image.layers)) if (layers.has(layer.diffId)) blobs.add(layer.diffId).add(layer.digest);
  expect(readdirSync(join(stack.dataRoot, 'layers')).sort()).toEqual([...layers].map((layer) => layer.slice(7)).sort());
  const stray = readdirSync(join(stack.dataRoot, 'blobs/sha256')).filter((hex) => !blobs.has(`sha256:${hex}`));
  expect(stray).toEqual([]);
  expect(readdirSync(join(stack.dataRoot, 'ingest'))).toEqual([]);
}

const inode = (path: string): number => statSync(path).ino;
const linkOf = (diffId: string): number =>
  statSync(join(stack.dataRoot, 'layers', diffId.slice(7), 'diff'), { throwIfNoEntry: false })?.ino ?? -1;

describe('any order of operations', () => {
  it('frees the layers when an image and the last snapshot on it go at the same time, whoever is first', async () => {
    const [image] = images;
    if (image === undefined) throw new Error('no image');
    // The snapshot goes a little later each round, so that its commit meets the image's at every step of the removal.
    for (let round = 0; round < 60; round++) {
      await act({ kind: 'load', image: 0 });
      await stack.snapshots.prepare({ key: 's0', imageId: image.id });
      await Promise.all([
        run({ kind: 'remove', name: { id: 0 }, force: true }),
        pause(round / 10).then(() => stack.snapshots.remove({ key: 's0' })),
      ]);
      await verify();
      await stack.clear();
    }
  });

  it('frees the layers when a snapshot is asked for while its image goes, whether it is had or not', async () => {
    const [image] = images;
    if (image === undefined) throw new Error('no image');
    for (let round = 0; round < 60; round++) {
      await act({ kind: 'load', image: 0 });
      await Promise.all([
        run({ kind: 'remove', name: { id: 0 }, force: true }),
        pause(round / 10).then(() => run({ kind: 'prepare', key: 0, image: 0 })),
      ]);
      await verify();
      stack.containers = [];
      await stack.clear();
      await verify();
    }
  });

  it('makes and removes one snapshot in turn: its record and its directories come and go together', async () => {
    await act({ kind: 'load', image: 0 });
    for (let round = 0; round < 40; round++) {
      await Promise.all([run({ kind: 'prepare', key: 0, image: 0 }), pause(round / 10).then(() => stack.snapshots.remove({ key: 's0' }))]);
      const directories = readdirSync(join(stack.dataRoot, 'snapshots'));
      const known = await stack.snapshots.usage({ key: 's0' }).then(
        () => ['s0'],
        () => [],
      );
      expect(directories).toEqual(known);
      await run({ kind: 'release', key: 0 });
    }
    await stack.clear();
  });

  it('keeps what is in use and nothing else', async () => {
    const scenario = fc.array(fc.tuple(operation, operation), { minLength: 4, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(scenario, async (pairs) => {
        for (let image = 0; image < images.length; image++) await run({ kind: 'load', image });
        for (const pair of pairs) {
          await Promise.all(pair.map(run));
          await verify();
        }
        stack.containers = [];
        await stack.clear();
        await verify();
        expect(readdirSync(join(stack.dataRoot, 'layers'))).toEqual([]);
      }),
      { numRuns: 10, endOnFailure: true },
    );
  }, 120_000);
});
