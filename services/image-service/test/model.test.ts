/** Everything that makes, uses and removes images, in any order and two at a time: nothing in use ever goes, nothing unused stays. */
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isUnavailable } from '@flotilla/errors';
import {
  assembleImage,
  buildLayer,
  buildTar,
  dockerArchive,
  pushImage,
  startRegistry,
  type TestImage,
  type TestRegistry,
} from '@flotilla/testkit';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

const isSoak = process.env.FLOTILLA_SOAK === '1';
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
const made = fc.constantFrom('built:0', 'built:1', 'committed:0', 'committed:1', 'imported:0', 'imported:1');
const name = fc.oneof(
  which.map((i) => `loaded:${i}`),
  which.map((i) => `tagged:${i}`),
  made,
  which.map((i) => ({ pulled: i })),
  which.map((i) => ({ id: i })),
);
const key = fc.nat(1);
const operation = fc.oneof(
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('load' as const), image: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pull' as const), image: which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tag' as const), name, tag: which }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('remove' as const), name, force: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('prune' as const), all: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pruneCache' as const), all: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('prepare' as const), key, name }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), key }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('build' as const), base: name, other: name, tag: fc.nat(1), noCache: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('commit' as const), key, tag: fc.nat(1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('import' as const), tag: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('save' as const), name }) },
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
    expect(['NotFound', 'Conflict', 'InvalidParameter'], `${JSON.stringify(each)}: ${String(error)}`).toContain(kind);
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
    case 'pruneCache':
      await stack.builds.prune({ all: each.all, filters: {}, keepStorage: 0n, maxUsed: 0n, minFree: 0n });
      return;
    case 'prepare': {
      const { Id: imageId } = await stack.inspect<{ Id: string }>(written(each.name));
      await stack.snapshots.prepare({ key: `s${each.key}`, imageId });
      if (!stack.containers.some((container) => container.Id === `s${each.key}`)) {
        stack.containers.push({ Id: `s${each.key}`, ImageID: imageId, State: 'exited' });
      }
      return;
    }
    case 'release':
      stack.containers = stack.containers.filter((container) => container.Id !== `s${each.key}`);
      await stack.snapshots.remove({ key: `s${each.key}` });
      return;
    case 'build':
      return build(each);
    case 'commit':
      return commit(each);
    case 'import': {
      const archive = await buildTar([{ path: `imported${each.tag}`, content: 'x' }]);
      const lines = await stack.import(archive, `imported:${each.tag}`);
      expect(lines.at(-1)).toEqual({ status: expect.stringMatching(/^sha256:/) });
      return;
    }
    case 'save': {
      // All of the image or, when it goes before the archive is fetched, a stream that breaks off.
      const archive = await stack.save(written(each.name)).catch((error: unknown) => {
        if (isUnavailable(error)) return undefined;
        throw error;
      });
      if (archive !== undefined) expect(archive.includes('oci-layout')).toBe(true);
    }
  }
}

/** Two stages on any two images, a layer in each. A base that goes meanwhile ends the build. */
async function build(each: { base: Name; other: Name; tag: number; noCache: boolean }): Promise<void> {
  const Dockerfile = `FROM ${await baseOf(each.other)} AS other
COPY file /other
FROM ${await baseOf(each.base)}
LABEL tag=${each.tag}
COPY --from=other /other /copied
COPY file /file${each.tag}
`;
  const context = await buildTar([
    { path: 'Dockerfile', content: Dockerfile },
    { path: 'file', content: 'file' },
  ]);
  const lines = await stack.build(context, { tags: [`built:${each.tag}`], noCache: each.noCache });
  const { error, stream } = lines.at(-1) ?? {};
  if (error === undefined) expect(stream).toBe(`Successfully tagged built:${each.tag}\n`);
  else expect(error).toMatch(/No such image|pull access denied|Get "https:|was removed while it was needed/);
}

/** A name of the registry is pulled when it is missing; of others the id, which nobody looks for in a registry. */
async function baseOf(each: Name): Promise<string> {
  if (typeof each === 'object' && 'pulled' in each) return written(each);
  return (await stack.inspect<{ Id: string }>(written(each))).Id;
}

let commits = 0;

async function commit(each: { key: number; tag: number }): Promise<void> {
  const snapshotKey = `s${each.key}`;
  const { mounts } = await stack.snapshots.mounts({ key: snapshotKey });
  try {
    writeFileSync(join(mounts?.upperDir ?? '', 'written'), `${commits++}`);
  } catch {
    // The other operation released it: committing it is refused.
  }
  await stack.images.commit({
    snapshotKey,
    repository: 'committed',
    tag: `${each.tag}`,
    comment: '',
    author: '',
    changes: [],
    configJson: Buffer.alloc(0),
    containerConfigJson: Buffer.alloc(0),
  });
}

/** Names that an operation gives when it succeeds. */
function given(each: Operation): string[] {
  switch (each.kind) {
    case 'load':
      return [`loaded:${each.image}`];
    case 'pull':
      return [`${registry.address}/model:v${each.image}`];
    case 'import':
      return [`imported:${each.tag}`];
    default:
      return [];
  }
}

/** Whether a name may be gone after an operation. */
function mayTake(each: Operation, reference: string): boolean {
  if (each.kind === 'prune') return each.all;
  if (each.kind !== 'remove') return false;
  const removed = written(each.name);
  return removed.startsWith('sha256:') || removed === reference;
}

/** Compares the disk with what is listed and prepared. @returns the names there are. */
async function verify(): Promise<Set<string>> {
  const names = new Set<string>();
  const layers = new Set<string>();
  const blobs = new Set<string>();
  for (const { Id, RepoTags } of await stack.list({}, true)) {
    for (const tag of RepoTags) names.add(tag);
    const known = images.find((each) => each.id === Id);
    blobs.add(Id);
    if (known !== undefined) blobs.add(known.manifestDescriptor.digest);
    const { RootFS } = await stack.inspect<{ RootFS: { Layers?: string[] } }>(Id);
    for (const layer of RootFS.Layers ?? []) layers.add(layer);
  }
  const onDisk = readdirSync(join(stack.dataRoot, 'layers'));
  const inodes = new Map(onDisk.map((hex) => [inode(join(stack.dataRoot, 'layers', hex, 'diff')), `sha256:${hex}`]));
  for (const key of readdirSync(join(stack.dataRoot, 'snapshots'))) {
    const { mounts } = await stack.snapshots.mounts({ key });
    // The lowest is what every container has.
    for (const lower of mounts?.lowerDirs.slice(0, -1) ?? []) {
      const layer = inodes.get(inode(lower));
      expect(layer, `${key} stands on ${lower}`).toBeDefined();
      layers.add(layer ?? '');
    }
  }
  // What is made here is stored as a plain tar, whose digest is the layer's own.
  for (const layer of layers) blobs.add(layer);
  for (const layer of images.flatMap((image) => image.layers)) if (layers.has(layer.diffId)) blobs.add(layer.digest);
  expect(onDisk.sort()).toEqual([...layers].map((layer) => layer.slice(7)).sort());
  const stray = readdirSync(join(stack.dataRoot, 'blobs/sha256')).filter((hex) => !blobs.has(`sha256:${hex}`));
  expect(stray).toEqual([]);
  expect(readdirSync(join(stack.dataRoot, 'ingest'))).toEqual([]);
  return names;
}

const inode = (path: string): number => statSync(path).ino;

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
        pause(round / 10).then(() => run({ kind: 'prepare', key: 0, name: { id: 0 } })),
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
      await Promise.all([
        run({ kind: 'prepare', key: 0, name: { id: 0 } }),
        pause(round / 10).then(() => stack.snapshots.remove({ key: 's0' })),
      ]);
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

  it(
    'keeps what is in use and nothing else',
    async () => {
      const scenario = fc.array(fc.tuple(operation, operation), { minLength: 4, maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(scenario, async (pairs) => {
          for (let image = 0; image < images.length; image++) await run({ kind: 'load', image });
          let names = await verify();
          for (const pair of pairs) {
            await Promise.all(pair.map(run));
            const now = await verify();
            const lost = [...names, ...pair.flatMap(given)].filter((each) => !now.has(each) && !pair.some((one) => mayTake(one, each)));
            expect(lost, `lost by ${JSON.stringify(pair)}`).toEqual([]);
            names = now;
          }
          expect(await stack.findings()).toEqual([]);
          await stack.snapshots.retain({ keys: [] });
          stack.containers = [];
          await run({ kind: 'prune', all: true });
          await run({ kind: 'pruneCache', all: true });
          expect(await stack.list({}, true)).toEqual([]);
          await verify();
          expect(readdirSync(join(stack.dataRoot, 'layers'))).toEqual([]);
          expect(readdirSync(join(stack.dataRoot, 'blobs/sha256'))).toEqual([]);
        }),
        { numRuns: isSoak ? 300 : 8, endOnFailure: true },
      );
    },
    isSoak ? 3_600_000 : 120_000,
  );
});
