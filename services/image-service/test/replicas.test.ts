/** Two instances on one data root: one truth, whichever answers. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage, pushImage, randomBytesOf, startRegistry, type TestRegistry } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;

beforeAll(async () => {
  registry = await startRegistry();
  stack = await Stack.start();
  await stack.startService('image-service');
});
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

describe('two replicas', () => {
  it("see each other's changes at the next read", async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]] });
    await pushImage(image, { address: registry.address, repository: 'seen', tag: 'latest' });
    await stack.pull(`${registry.address}/seen`);
    for (let i = 0; i < 6; i++) {
      await stack.images.tag({ image: image.id, repository: 'seen', tag: `v${i}` });
      expect((await stack.inspect(`seen:v${i}`)).Id).toBe(image.id);
      await stack.remove(`seen:v${i}`);
      await expect(stack.inspect(`seen:v${i}`)).rejects.toMatchObject({ kind: 'NotFound' });
    }
    await stack.clear();
  });

  it('pull one image at once, and it is whole', async () => {
    const image = await buildImage({ layers: [[{ path: 'big', content: randomBytesOf(6_000_000) }], [{ path: 'small', content: 's' }]] });
    for (const tag of ['a', 'b', 'c', 'd']) await pushImage(image, { address: registry.address, repository: 'both', tag });
    const pulls = await Promise.all(['a', 'b', 'c', 'd'].map((tag) => stack.pull(`${registry.address}/both`, { tag })));
    for (const lines of pulls) expect(lines.at(-1)?.status).toMatch(/^Status: /);
    expect((await stack.inspect(image.id)).RepoTags).toHaveLength(4);
    expect(readdirSync(join(stack.dataRoot, 'ingest'))).toEqual([]);
    expect(readdirSync(join(stack.dataRoot, 'layers'))).toHaveLength(2);
    // A snapshot made by one is removed by the other.
    const { mounts } = await stack.snapshots.prepare({ key: 'k', imageId: image.id });
    for (const lower of mounts?.lowerDirs ?? ['/missing']) expect(statSync(lower).isDirectory()).toBe(true);
    expect((await stack.snapshots.mounts({ key: 'k' })).mounts).toEqual(mounts);
    await stack.snapshots.remove({ key: 'k' });
    await stack.clear();
    expect(readdirSync(join(stack.dataRoot, 'layers'))).toEqual([]);
  });

  it('never leave a snapshot without its layers when one removes what the other prepares', async () => {
    const image = await buildImage({ layers: [[{ path: 'raced', content: 'r' }]] });
    await pushImage(image, { address: registry.address, repository: 'raced', tag: 'latest' });
    for (let i = 0; i < 8; i++) {
      await stack.pull(`${registry.address}/raced`);
      const removing = stack.remove(image.id, { force: true }).then(
        () => true,
        () => false,
      );
      const prepared = await stack.snapshots.prepare({ key: `race${i}`, imageId: image.id }).catch(() => undefined);
      await removing;
      for (const lower of prepared?.mounts?.lowerDirs ?? []) expect(statSync(lower).isDirectory()).toBe(true);
      if (prepared === undefined) await expect(stack.snapshots.mounts({ key: `race${i}` })).rejects.toMatchObject({ kind: 'NotFound' });
      await stack.snapshots.remove({ key: `race${i}` });
    }
  });
});
