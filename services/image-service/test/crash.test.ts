/** kill -9 at any moment: nothing half is ever taken for whole, a pull goes on where it was, and nothing is left for good. */
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  buildImage,
  dockerArchive,
  randomBytesOf,
  type StaticRegistry,
  startStaticRegistry,
  type TestImage,
  waitFor,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: StaticRegistry;

beforeAll(async () => {
  registry = await startStaticRegistry();
  stack = await Stack.start();
}, 120_000);
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

const files = (folder: string): string[] => readdirSync(join(stack.dataRoot, folder));

describe('killed in the middle of a pull', () => {
  it('goes on where it was', async () => {
    const size = 24_000_000;
    const image = await buildImage({ layers: [[{ path: 'small', content: 's' }], [{ path: 'big', content: randomBytesOf(size) }]] });
    registry.add('big', 'latest', image);
    const digest = image.layers[1]?.digest ?? '';
    // The blob stops half-way, for as long as it takes.
    registry.misbehave([{ path: digest, cutAfterBytes: size / 2 }]);
    const lost = stack.pull(`${registry.address}/big`).then(
      () => 'whole',
      () => 'cut',
    );
    const partial = join(stack.dataRoot, 'ingest', digest.replace(':', '-'));
    await waitFor(() => existsSync(partial) && statSync(partial).size > size / 4, { what: 'a part of the blob', timeoutMs: 20_000 });
    await stack.crash('image-service');
    expect(await lost).toBe('cut');
    expect(await listLayers()).not.toContain(image.layers[1]?.diffId.slice(7));
    registry.misbehave([]);
    const kept = statSync(partial).size;
    expect(kept).toBeGreaterThan(0);
    await stack.startService('image-service');
    expect(files('layers').filter((name) => name.startsWith('.new-'))).toEqual([]);
    expect(statSync(partial).size).toBe(kept);
    const lines = await stack.pull(`${registry.address}/big`);
    expect(lines.at(-1)?.status).toBe(`Status: Downloaded newer image for ${registry.address}/big:latest`);
    expect(existsSync(partial)).toBe(false);
    expect((await stack.inspect(image.id)).Size).toBe(size + 1);
  });

  async function listLayers(): Promise<string[]> {
    return files('layers');
  }
});

describe('reconcile at start', () => {
  it('removes what a crash left, and keeps what is recorded', async () => {
    const image = await buildImage({ layers: [[{ path: 'kept', content: 'k' }]] });
    registry.add('kept', 'latest', image);
    await stack.pull(`${registry.address}/kept`);
    const { mounts } = await stack.snapshots.prepare({ key: 'container1', imageId: image.id });
    writeFileSync(join(mounts?.upperDir ?? '', 'written'), 'by a container');
    await stack.crash('image-service');
    mkdirSync(join(stack.dataRoot, 'layers/.new-x/diff'), { recursive: true });
    mkdirSync(join(stack.dataRoot, 'ingest/load-x'), { recursive: true });
    mkdirSync(join(stack.dataRoot, 'snapshots/orphan/diff'), { recursive: true });
    mkdirSync(join(stack.dataRoot, 'trash/x/y'), { recursive: true });
    await stack.startService('image-service');
    expect(files('snapshots')).toEqual(['container1']);
    expect(files('layers').filter((name) => name.startsWith('.'))).toEqual([]);
    expect(files('ingest')).toEqual([]);
    expect(files('trash')).toEqual([]);
    const again = await stack.snapshots.mounts({ key: 'container1' });
    expect(again.mounts).toEqual(mounts);
    expect(existsSync(join(mounts?.upperDir ?? '', 'written'))).toBe(true);
    expect((await stack.inspect(image.id)).Id).toBe(image.id);
    await stack.snapshots.remove({ key: 'container1' });
    await stack.snapshots.remove({ key: 'container1' });
    expect(files('snapshots')).toEqual([]);
  });
});

/** Damage, as `flotilla doctor --disk` finds it; what is only nobody's is no damage. */
async function damage(): Promise<string[]> {
  const found: string[] = [];
  for await (const { kind, name, detail, orphan } of stack.disk.check({ repair: false }, { signal: AbortSignal.timeout(30_000) })) {
    if (kind !== 'summary' && !orphan) found.push(`${kind} ${name} ${detail}`);
  }
  return found;
}

/** Kills image-service a moment from now, and starts it again. */
async function killAfter(ms: number, work: Promise<unknown>): Promise<void> {
  const ended = work.then(
    () => undefined,
    () => undefined,
  );
  await pause(ms);
  await stack.crash('image-service');
  await ended;
  await stack.startService('image-service');
}

function images(count: number, seed: string): Promise<TestImage[]> {
  const layers = (index: number): { path: string; content: Buffer }[][] => [
    [{ path: 'shared', content: randomBytesOf(1_000_000, seed) }],
    [{ path: 'own', content: randomBytesOf(1_000_000, `${seed} ${index}`) }],
  ];
  return Promise.all(Array.from({ length: count }, (_, index) => buildImage({ layers: layers(index) })));
}

const isSoak = process.env.FLOTILLA_SOAK === '1';

describe('killed at some moment of a load', () => {
  it.each(isSoak ? [5, 40, 120] : [40])(
    '%i ms after it began: it is sound, and the load can be repeated',
    async (ms) => {
      const made = await images(3, `load ${ms}`);
      const archive = await dockerArchive(made.map((image, index) => ({ image, tags: [`loaded${ms}:${index}`] })));
      await killAfter(ms, stack.load(archive));
      expect(await damage()).toEqual([]);
      expect((await stack.load(archive)).some((line) => line.error !== undefined)).toBe(false);
      for (const [index, image] of made.entries()) expect((await stack.inspect(`loaded${ms}:${index}`)).Id).toBe(image.id);
      expect(await damage()).toEqual([]);
      await stack.clear();
    },
    120_000,
  );
});

describe('killed at some moment of a prune', () => {
  it.each(isSoak ? [1, 10, 30] : [10])(
    '%i ms after it began: it is sound, and the prune can be repeated',
    async (ms) => {
      const made = await images(6, `prune ${ms}`);
      await stack.load(await dockerArchive(made.map((image, index) => ({ image, tags: [`pruned${ms}:${index}`] }))));
      await stack.snapshots.prepare({ key: 'user', imageId: made[0]?.id ?? '' });
      stack.containers = [{ Id: 'c'.repeat(64), ImageID: made[0]?.id ?? '', State: 'exited' }];
      await killAfter(ms, stack.images.prune({ filters: { dangling: { values: ['false'] } } }));
      expect(await damage()).toEqual([]);
      await stack.images.prune({ filters: { dangling: { values: ['false'] } } });
      expect((await stack.list()).map((image) => image.Id)).toEqual([made[0]?.id]);
      expect(await damage()).toEqual([]);
      await stack.clear();
    },
    120_000,
  );
});

describe('registry-proxy killed in the middle of a pull', () => {
  it('is waited for, and the pull goes on where it was', async () => {
    const size = 16_000_000;
    const image = await buildImage({ layers: [[{ path: 'big', content: randomBytesOf(size, 'proxy') }]] });
    registry.add('proxied', 'latest', image);
    const digest = image.layers[0]?.digest ?? '';
    registry.misbehave([{ path: digest, cutAfterBytes: size / 2 }]);
    const pulled = stack.pull(`${registry.address}/proxied`);
    const partial = join(stack.dataRoot, 'ingest', digest.replace(':', '-'));
    await waitFor(() => existsSync(partial) && statSync(partial).size > size / 4, { what: 'a part of the blob', timeoutMs: 20_000 });
    await stack.kill('registry-proxy');
    registry.misbehave([]);
    await stack.startService('registry-proxy');
    const lines = await pulled;
    expect(lines.at(-1)?.status).toBe(`Status: Downloaded newer image for ${registry.address}/proxied:latest`);
    expect((await stack.inspect(image.id)).Size).toBe(size);
  });
});

describe('cancelled by its client', () => {
  it('stops, and keeps what came for the next attempt', async () => {
    const size = 8_000_000;
    const image = await buildImage({ layers: [[{ path: 'big', content: randomBytesOf(size, 'cancel') }]] });
    registry.add('cancel', 'latest', image);
    const digest = image.layers[0]?.digest ?? '';
    registry.misbehave([{ path: digest, cutAfterBytes: size / 2 }]);
    const abort = new AbortController();
    const lost = stack.pull(`${registry.address}/cancel`, { signal: abort.signal }).catch(() => 'gone');
    const partial = join(stack.dataRoot, 'ingest', digest.replace(':', '-'));
    await waitFor(() => existsSync(partial) && statSync(partial).size > size / 4, { what: 'a part of the blob', timeoutMs: 20_000 });
    abort.abort();
    abort.abort();
    expect(await lost).toBe('gone');
    await waitFor(() => files('layers').every((name) => !name.startsWith('.new-')), { what: 'the end of extraction' });
    registry.misbehave([]);
    await stack.pull(`${registry.address}/cancel`);
    expect((await stack.inspect(image.id)).Size).toBe(size);
  });
});
