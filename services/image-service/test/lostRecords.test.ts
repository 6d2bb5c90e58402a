/** A start with an empty Redis where there are layers and snapshots: they may be containers' that run, and nothing takes them away. */
import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lostPath } from '@flotilla/records/restoration';
import { buildImage, dockerArchive, type TestImage } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

const unknown = `sha256:${'1'.repeat(64)}`;
const unsynced = 'before.layer.sha256-';
let stack: Stack;
let image: TestImage;
let kept: string[];

function makeLayer(dataRoot: string, diffId: string): string {
  const path = join(dataRoot, 'layers', diffId.slice('sha256:'.length));
  mkdirSync(join(path, 'diff'), { recursive: true });
  writeFileSync(join(path, 'size'), '0\n');
  utimesSync(path, 1, 1);
  return path;
}

const present = (): string[] => kept.filter((path) => existsSync(path));

beforeAll(async () => {
  image = await buildImage({ layers: [[{ path: 'a', content: 'a' }], [{ path: 'b', content: 'b' }]] });
  stack = await Stack.start({
    prepare: (dataRoot) => {
      const snapshot = join(dataRoot, 'snapshots/runs');
      mkdirSync(join(snapshot, 'diff'), { recursive: true });
      utimesSync(snapshot, 1, 1);
      mkdirSync(join(dataRoot, 'unsynced'), { recursive: true });
      // Another boot has not written these to the disk for certain.
      for (const diffId of [unknown, image.layers[0]?.diffId ?? ''])
        writeFileSync(join(dataRoot, 'unsynced', `${unsynced}${diffId.slice('sha256:'.length)}.1`), '');
      kept = [snapshot, makeLayer(dataRoot, unknown), makeLayer(dataRoot, image.layers[0]?.diffId ?? '')];
    },
  });
});
afterAll(() => stack?.stop());

describe('while records are lost', () => {
  it('a start after a power cut takes no layer away, and looks again the next time', () => {
    expect(existsSync(lostPath(stack.dataRoot))).toBe(true);
    expect(present()).toEqual(kept);
    expect(readdirSync(join(stack.dataRoot, 'unsynced')).filter((name) => name.startsWith(unsynced))).toHaveLength(2);
  });

  it('a repair names what no record knows, and leaves it', async () => {
    const found: string[] = [];
    for await (const { kind, orphan, repaired } of stack.disk.check({ repair: true }, { signal: AbortSignal.timeout(30_000) }))
      if (orphan) found.push(`${kind} ${repaired}`);
    expect(found.sort()).toEqual(['layer false', 'layer false', 'snapshot false']);
    expect(present()).toEqual(kept);
  });

  it('an image that comes again and goes takes no layer with it, and none is extracted anew in its place', async () => {
    expect((await stack.load(await dockerArchive([{ image, tags: ['again:1'] }]))).at(-1)?.error).toBeUndefined();
    const found: string[] = [];
    for await (const { kind, detail, repaired } of stack.disk.check({ repair: true }, { signal: AbortSignal.timeout(30_000) }))
      if (detail.includes('is missing')) found.push(`${kind} ${detail} ${repaired}`);
    expect(found).toEqual(['layer a is missing: records are lost, and containers may stand on it false']);
    await stack.remove('again:1');
    expect(present()).toEqual(kept);
  });

  it('an operator’s word makes them leftovers', async () => {
    rmSync(lostPath(stack.dataRoot));
    for await (const _finding of stack.disk.check({ repair: true }, { signal: AbortSignal.timeout(30_000) }));
    expect(present()).toEqual([]);
  });
});
