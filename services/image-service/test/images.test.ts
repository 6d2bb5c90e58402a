/** list, tag, remove, prune, resolve and snapshots, by dockerd's rules and in its words. */
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage, buildTar, dockerArchive, pushImage, startRegistry, type TestImage, type TestRegistry } from '@flotilla/testkit';
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

async function loaded(content: string, ...tags: string[]): Promise<TestImage> {
  const image = await buildImage({
    layers: [[{ path: 'base', content: 'base' }], [{ path: 'a', content }]],
    config: { Labels: { kind: content } },
  });
  await stack.load(await dockerArchive([{ image, tags }]));
  return image;
}
const short = (image: TestImage): string => image.id.slice(7, 19);
const containerId = 'c'.repeat(64);

describe('names', () => {
  it('are found by tag, id and beginning of an id', async () => {
    const image = await loaded('names', 'name:1', 'name:latest');
    for (const name of ['name', 'name:1', 'docker.io/library/name:1', image.id, image.id.slice(7), short(image), image.id.slice(0, 20)]) {
      const resolved = await stack.images.resolve({ image: name, platform: '', idOnly: false, withDescendants: false });
      expect(resolved.id).toBe(image.id);
      expect(Buffer.from(resolved.configJson).equals(image.config)).toBe(true);
      expect(resolved.platform).toMatch(/^linux\//);
    }
    await expect(stack.images.resolve({ image: 'missing', platform: '', idOnly: false, withDescendants: false })).rejects.toMatchObject({
      kind: 'NotFound',
      message: 'No such image: missing:latest',
    });
    await expect(stack.images.resolve({ image: 'a b', platform: '', idOnly: false, withDescendants: false })).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'invalid reference format',
    });
    await expect(
      stack.images.resolve({ image: 'name', platform: 'linux/s390x', idOnly: false, withDescendants: false }),
    ).rejects.toMatchObject({
      kind: 'NotFound',
      message: expect.stringContaining('does not match the specified platform (linux/s390x)'),
    });
  });

  it('are given and moved by tag', async () => {
    const [one, two] = [await loaded('one', 'one:latest'), await loaded('two', 'two:latest')];
    await stack.images.tag({ image: 'one', repository: 'shared', tag: 'v' });
    await stack.images.tag({ image: 'two', repository: 'shared:v', tag: '' });
    expect((await stack.inspect(two.id)).RepoTags).toEqual(['shared:v', 'two:latest']);
    expect((await stack.inspect(one.id)).RepoTags).toEqual(['one:latest']);
    await expect(stack.images.tag({ image: 'one', repository: 'x', tag: '../y' })).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'invalid tag format',
    });
    await expect(stack.images.tag({ image: 'none', repository: 'x', tag: '' })).rejects.toMatchObject({ kind: 'NotFound' });
  });
});

describe('list', () => {
  it('filters as dockerd does', async () => {
    const image = await loaded('listed', 'filter/a:1', 'filter/a:2', 'other:1');
    const tags = async (filters: Record<string, string[]>): Promise<string[]> =>
      (await stack.list(filters)).flatMap((each) => each.RepoTags);
    expect(await tags({ reference: ['filter/*'] })).toEqual(['filter/a:1', 'filter/a:2']);
    expect(await tags({ reference: ['*:1'] })).toEqual(['other:1']);
    expect(await tags({ label: ['kind=listed'] })).toHaveLength(3);
    expect(await tags({ label: ['kind=no'] })).toEqual([]);
    expect(await tags({ until: ['2020-01-01'] })).toEqual([]);
    expect(await tags({ before: [image.id] })).toEqual([]);
    await expect(stack.list({ nonsense: ['1'] })).rejects.toMatchObject({ kind: 'InvalidParameter', message: "invalid filter 'nonsense'" });
    await expect(stack.list({ dangling: ['x'] })).rejects.toMatchObject({ message: "invalid filter 'dangling=[x]'" });
    await expect(stack.list({ before: ['missing'] })).rejects.toMatchObject({ kind: 'NotFound', message: 'No such image: missing:latest' });
  });
});

describe('list, of images made in 2024 and now', () => {
  /** An image made now, which has no tag when `name` is empty. */
  const made = async (name: string, content: string, changes: string[] = []): Promise<string> => {
    const lines = await stack.import(await buildTar([{ path: 'made', content }]), name, changes);
    return lines.at(-1)?.status ?? '';
  };
  const ids = async (filters: Record<string, string[]>, all = false): Promise<string[]> =>
    (await stack.list(filters, all)).map((each) => each.Id).sort();

  it('takes those before and since others, until a moment, and those without a tag', async () => {
    const old = await loaded('old', 'old:1');
    const named = await made('named:1', 'named');
    await new Promise((resolve) => setTimeout(resolve, 5));
    const nameless = await made('', 'nameless');
    const all = [old.id, named, nameless].sort();
    expect(await ids({})).toEqual(all);
    expect(await ids({ before: ['named:1'] })).toEqual([old.id]);
    expect(await ids({ before: [nameless] })).toEqual([old.id, named].sort());
    expect(await ids({ since: ['old:1'] })).toEqual([named, nameless].sort());
    expect(await ids({ since: ['old:1'], before: [nameless] })).toEqual([named]);
    expect(await ids({ until: ['2024-06-01'] })).toEqual([old.id]);
    expect(await ids({ until: ['24h'] })).toEqual([old.id]);
    // Of several the earliest counts; an image of that very moment is not among them.
    expect(await ids({ until: ['2024-06-01', '1h', '2024-01-01T00:00:01Z'] })).toEqual([old.id]);
    expect(await ids({ until: ['2024-01-01T00:00:00Z', '1h'] })).toEqual([]);
    expect(await ids({ until: [`${Math.ceil(Date.now() / 1000) + 60}`] })).toEqual(all);
    expect(await ids({ dangling: ['true'] })).toEqual([nameless]);
    expect(await ids({ dangling: ['false'] })).toEqual([old.id, named].sort());
    expect(await ids({ dangling: ['false'], since: ['old'] }).catch((error: Error) => error.message)).toBe('No such image: old:latest');
  });

  it('goes by labels, each of which must be there', async () => {
    const both = await made('both:1', 'both', ['LABEL tier=web zone=a']);
    const one = await made('one:1', 'one', ['LABEL tier=web']);
    expect(await ids({ label: ['tier'] })).toEqual([both, one].sort());
    expect(await ids({ label: ['tier=web', 'zone=a'] })).toEqual([both]);
    expect(await ids({ label: ['tier=db'] })).toEqual([]);
    const { itemsJson } = await stack.images.prune({ filters: { dangling: { values: ['false'] }, 'label!': { values: ['zone'] } } });
    expect(parse<object[]>(itemsJson).slice(0, 2)).toEqual([{ Untagged: 'one:1' }, { Deleted: one }]);
    await stack.images.prune({ filters: { dangling: { values: ['false'] }, until: { values: ['2024-06-01'] } } });
    expect(await ids({})).toEqual([both]);
    await stack.images.prune({ filters: { dangling: { values: ['false'] }, label: { values: ['tier=web'] } } });
    expect(await ids({})).toEqual([]);
  });

  it('goes by names: patterns of repositories, tags and digests', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'referenced' }]] });
    const digest = image.manifestDescriptor.digest;
    await pushImage(image, { address: registry.address, repository: 'team/app', tag: 'v1' });
    await stack.pull(`${registry.address}/team/app`, { tag: 'v1' });
    await stack.images.tag({ image: image.id, repository: 'app', tag: 'v2' });
    const shown = async (...patterns: string[]): Promise<unknown> => (await stack.list({ reference: patterns }))[0];
    expect(await shown('app')).toMatchObject({ RepoTags: ['app:v2'], RepoDigests: [] });
    expect(await shown('*:v2')).toMatchObject({ RepoTags: ['app:v2'], RepoDigests: [] });
    const names = { RepoTags: [`${registry.address}/team/app:v1`], RepoDigests: [`${registry.address}/team/app@${digest}`] };
    expect(await shown(`${registry.address}/team/*`)).toMatchObject(names);
    expect(await shown('app:v1')).toBeUndefined();
    expect(await shown('nothing', 'app:v?')).toMatchObject({ RepoTags: ['app:v2'] });
  });

  it('says how much of an image others share, exactly', async () => {
    const shared = { path: 'shared', content: 'x'.repeat(5000) };
    const build = (own: string, bytes: number): Promise<TestImage> =>
      buildImage({ layers: [[shared], [{ path: own, content: 'y'.repeat(bytes) }]] });
    const [one, two] = [await build('one', 100), await build('two', 200)];
    const archive = await dockerArchive([
      { image: one, tags: ['one:1'] },
      { image: two, tags: ['two:1'] },
    ]);
    await stack.load(archive);
    const sizes = async (): Promise<Record<string, number[]>> => {
      const request = { all: false, filters: {}, sharedSize: true, digests: false, manifests: false };
      const list = parse<{ RepoTags: string[]; Size: number; SharedSize: number }[]>((await stack.images.list(request)).imagesJson);
      return Object.fromEntries(list.map(({ RepoTags, Size, SharedSize }) => [RepoTags[0], [Size, SharedSize]]));
    };
    expect(await sizes()).toEqual({ 'one:1': [5100, 5000], 'two:1': [5200, 5000] });
    expect((await stack.images.counts({})).layersSize).toBe(5300n);
    await stack.remove('two:1');
    expect(await sizes()).toEqual({ 'one:1': [5100, 0] });
    expect((await stack.images.counts({})).layersSize).toBe(5100n);
    expect((await stack.list())[0]).toMatchObject({ SharedSize: -1 });
  });
});

describe('remove', () => {
  it('takes names first, the image with the last of them, and only layers nobody else has', async () => {
    const image = await loaded('removed', 'rm:1', 'rm:2');
    const sibling = await loaded('sibling', 'sibling:latest');
    expect(await stack.remove('rm:1')).toEqual([{ Untagged: 'rm:1' }]);
    expect(await stack.remove('rm:2')).toEqual([
      { Untagged: 'rm:2' },
      { Deleted: image.id },
      { Deleted: expect.stringMatching(/^sha256:/) },
    ]);
    expect(readdirSync(join(stack.dataRoot, 'layers')).sort()).toEqual(sibling.layers.map((layer) => layer.diffId.slice(7)).sort());
    await expect(stack.remove('rm:2')).rejects.toMatchObject({ kind: 'NotFound', message: 'No such image: rm:2' });
  });

  it('by id refuses several repositories, unless forced', async () => {
    const image = await loaded('several', 'a:1', 'b:1');
    await expect(stack.remove(image.id)).rejects.toMatchObject({
      kind: 'Conflict',
      message: `conflict: unable to delete ${short(image)} (must be forced) - image is referenced in multiple repositories`,
    });
    const items = await stack.remove(short(image), { force: true });
    expect(items.slice(0, 3)).toEqual([{ Untagged: 'a:1' }, { Untagged: 'b:1' }, { Deleted: image.id }]);
  });

  it('by digest takes the digest alone while a tag stays', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'by digest' }]] });
    const pinned = await pushImage(image, { address: registry.address, repository: 'pinned', tag: 'v1' });
    await stack.pull(`${registry.address}/pinned`, { tag: 'v1' });
    expect(await stack.remove(pinned)).toEqual([{ Untagged: pinned }]);
    expect((await stack.list())[0]).toMatchObject({ RepoTags: [`${registry.address}/pinned:v1`], RepoDigests: [] });
    await stack.pull(pinned);
    const items = await stack.remove(`${registry.address}/pinned:v1`);
    expect(items.slice(0, 3)).toEqual([{ Untagged: `${registry.address}/pinned:v1` }, { Untagged: pinned }, { Deleted: image.id }]);
    await stack.pull(pinned);
    expect((await stack.remove(pinned)).slice(0, 2)).toEqual([{ Untagged: pinned }, { Deleted: image.id }]);
  });

  it('takes parents without a name along, unless it is told not to', async () => {
    const committed = async (base: TestImage, key: string): Promise<string> => {
      await stack.snapshots.prepare({ key, imageId: base.id });
      const nothing = {
        tag: 'v1',
        comment: '',
        author: '',
        changes: [],
        configJson: Buffer.alloc(0),
        containerConfigJson: Buffer.alloc(0),
      };
      const { id } = await stack.images.commit({ ...nothing, snapshotKey: key, repository: key });
      await stack.snapshots.remove({ key });
      // Its base loses its name, and stays for what was made of it.
      expect(await stack.remove(`${key}-base:1`)).toEqual([{ Untagged: `${key}-base:1` }]);
      return id;
    };
    const base = await loaded('kept', 'kept-base:1');
    const kept = await committed(base, 'kept');
    const wish = { platform: '', idOnly: true, withDescendants: true };
    expect((await stack.images.resolve({ image: base.id, ...wish })).descendantIds).toEqual([kept]);
    expect((await stack.images.resolve({ image: kept, ...wish })).descendantIds).toEqual([]);
    const keeping = await stack.remove('kept:v1', { noPrune: true });
    expect(keeping.slice(0, 2)).toEqual([{ Untagged: 'kept:v1' }, { Deleted: kept }]);
    expect((await stack.list()).map((image) => image.Id)).toEqual([base.id]);
    await stack.remove(base.id);
    const other = await loaded('gone', 'gone-base:1');
    const gone = await committed(other, 'gone');
    const items = await stack.remove('gone:v1');
    expect(items.filter(({ Deleted }) => Deleted === gone || Deleted === other.id)).toHaveLength(2);
    expect(await stack.list({}, true)).toEqual([]);
  });

  it("refuses what containers use, in dockerd's words", async () => {
    const image = await loaded('used', 'used:latest');
    await stack.snapshots.prepare({ key: containerId, imageId: image.id });
    stack.containers = [{ Id: containerId, ImageID: image.id, State: 'exited' }];
    await expect(stack.remove('used')).rejects.toMatchObject({
      kind: 'Conflict',
      message: `conflict: unable to remove repository reference "used" (must force) - container ${containerId.slice(0, 12)} is using its referenced image ${short(image)}`,
    });
    await expect(stack.remove(image.id)).rejects.toMatchObject({
      message: `conflict: unable to delete ${short(image)} (must be forced) - image is being used by stopped container ${containerId.slice(0, 12)}`,
    });
    stack.containers = [{ Id: containerId, ImageID: image.id, State: 'running' }];
    await expect(stack.remove(image.id, { force: true })).rejects.toMatchObject({
      message: `conflict: unable to delete ${short(image)} (cannot be forced) - image is being used by running container ${containerId.slice(0, 12)}`,
    });
    // By name and by force only the name goes.
    expect(await stack.remove('used', { force: true })).toEqual([{ Untagged: 'used:latest' }]);
    stack.containers = [{ Id: containerId, ImageID: image.id, State: 'exited' }];
    await stack.remove(image.id, { force: true });
    // The container can still be started: its layers are held by its snapshot, and go with it.
    const { mounts } = await stack.snapshots.mounts({ key: containerId });
    for (const lower of mounts?.lowerDirs ?? ['/missing']) expect(statSync(lower).isDirectory()).toBe(true);
    await stack.snapshots.remove({ key: containerId });
    expect(readdirSync(join(stack.dataRoot, 'layers'))).toEqual([]);
  });
});

describe('prune', () => {
  it('takes dangling images, or all that are unused', async () => {
    await loaded('old', 'p:latest');
    const now = await loaded('new', 'p:latest');
    const used = await loaded('inuse', 'inuse:latest');
    await stack.snapshots.prepare({ key: 'k', imageId: used.id });
    const dangling = await stack.images.prune({ filters: {} });
    expect(parse<object[]>(dangling.itemsJson)[0]).toEqual({ Deleted: expect.stringMatching(/^sha256:/) });
    expect(dangling.spaceReclaimed).toBe(3n);
    const all = await stack.images.prune({ filters: { dangling: { values: ['false'] } } });
    expect(parse<object[]>(all.itemsJson).slice(0, 2)).toEqual([{ Untagged: 'p:latest' }, { Deleted: now.id }]);
    expect((await stack.list()).map((image) => image.Id)).toEqual([used.id]);
  });

  it('never takes a layer from under a pull', async () => {
    const images = await Promise.all(
      Array.from({ length: 6 }, (_, i) => buildImage({ layers: [[{ path: 'base', content: 'base' }], [{ path: 'n', content: `${i}` }]] })),
    );
    for (const [i, image] of images.entries()) await pushImage(image, { address: registry.address, repository: `race${i}`, tag: 'latest' });
    let pulling = true;
    const pruning = (async () => {
      while (pulling) {
        await stack.images.prune({ filters: {} }).catch((error: unknown) => {
          if (!String(error).includes('already running')) throw error;
        });
        for (const { Id } of await stack.list({}, true)) await stack.remove(Id, { force: true }).catch(() => undefined);
      }
    })();
    for (let round = 0; round < 2; round++) await Promise.all(images.map((_, i) => stack.pull(`${registry.address}/race${i}`)));
    pulling = false;
    await pruning;
    await Promise.all(images.map((_, i) => stack.pull(`${registry.address}/race${i}`)));
    expect(await stack.list()).toHaveLength(6);
    for (const image of images) {
      const { mounts } = await stack.snapshots.prepare({ key: `r${short(image)}`, imageId: image.id });
      for (const lower of mounts?.lowerDirs ?? ['/missing']) expect(statSync(lower).isDirectory()).toBe(true);
    }
  });
});

describe('snapshots', () => {
  it('are made once, measured, retained and removed', async () => {
    const image = await loaded('snap', 'snap:latest');
    const first = await stack.snapshots.prepare({ key: 's1', imageId: image.id });
    expect(await stack.snapshots.prepare({ key: 's1', imageId: image.id })).toEqual(first);
    await stack.snapshots.prepare({ key: 's2', imageId: image.id });
    writeFileSync(join(first.mounts?.upperDir ?? '', 'f'), 'x'.repeat(1000));
    const usage = await stack.snapshots.usage({ key: 's1' });
    expect([usage.sizeRw, usage.sizeRootFs]).toEqual([1000n, 8n]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect((await stack.snapshots.retain({ keys: ['s1'] })).removed).toEqual(['s2']);
    expect(readdirSync(join(stack.dataRoot, 'snapshots'))).toEqual(['s1']);
    await expect(stack.snapshots.prepare({ key: '../x', imageId: image.id })).rejects.toMatchObject({ kind: 'InvalidParameter' });
    await expect(stack.snapshots.prepare({ key: 'y', imageId: `sha256:${'0'.repeat(64)}` })).rejects.toMatchObject({ kind: 'NotFound' });
    await expect(stack.snapshots.mounts({ key: 'none' })).rejects.toMatchObject({ kind: 'NotFound' });
  });
});
