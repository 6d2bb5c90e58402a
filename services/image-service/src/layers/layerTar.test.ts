import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeLayerTar } from './layerTar.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-layer-tar-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

it('lets others have their turns while it writes many small files', async () => {
  const upper = join(directory, 'upper');
  mkdirSync(upper);
  for (let i = 0; i < 1_000; i++) writeFileSync(join(upper, `${i}`), `${i}`);
  let turns = 0;
  let isOver = false;
  const others = (): void => {
    turns++;
    if (!isOver) setImmediate(others);
  };
  setImmediate(others);
  const begun = performance.now();
  const tar = await writeLayerTar(upper, join(directory, 'tar'), AbortSignal.timeout(60_000));
  isOver = true;
  expect(tar.isEmpty).toBe(false);
  // Each turn is a few milliseconds long; a slow machine makes them longer, not a hundred times.
  expect(turns).toBeGreaterThan((performance.now() - begun) / 500);
  expect(turns).toBeGreaterThan(3);
});
