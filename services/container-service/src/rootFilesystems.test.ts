import { expect, test } from 'vitest';
import type { Snapshot } from './container.ts';
import { RootFilesystems } from './rootFilesystems.ts';

const snapshot: Snapshot = { lowerDirs: ['/l'], upperDir: '/u', workDir: '/w', mergedDir: '/m', baseDir: '/b' };

function setUp() {
  let mounts = 0;
  let most = 0;
  const running = new Set<string>();
  const roots = new RootFilesystems(
    {
      mount: () => {
        mounts++;
        most = Math.max(most, mounts);
      },
      unmount: async () => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        mounts = 0;
      },
      clear: () => {
        mounts = 0;
      },
    },
    (id) => running.has(id),
  );
  return { roots, running, mounted: () => mounts, most: () => most };
}

test('copies share one mount, and the last takes it away', async () => {
  const { roots, mounted, most } = setUp();
  await roots.acquire('c', snapshot);
  await roots.acquire('c', snapshot);
  await roots.release('c', snapshot);
  expect(mounted()).toBe(1);
  await roots.release('c', snapshot);
  expect(mounted()).toBe(0);
  expect(most()).toBe(1);
});

test('a copy that ends leaves a run its mount, before and after its record tells of it', async () => {
  const { roots, running, mounted } = setUp();
  await roots.acquire('c', snapshot);
  const told = await roots.mountForRun('c', snapshot);
  await roots.release('c', snapshot);
  expect(mounted()).toBe(1);
  running.add('c');
  told();
  await roots.with('c', snapshot, async () => expect(mounted()).toBe(1));
  expect(mounted()).toBe(1);
  running.delete('c');
  await roots.unmountAfterRun('c', snapshot);
  expect(mounted()).toBe(0);
});

test('a run that another instance has ended is mounted anew', async () => {
  const { roots, running, mounted } = setUp();
  (await roots.mountForRun('c', snapshot))();
  running.add('c');
  // The other instance: unmounts, and the record says so.
  await setUp().roots.unmountAfterRun('c', snapshot);
  running.delete('c');
  (await roots.mountForRun('c', snapshot))();
  expect(mounted()).toBe(1);
});

test('a mount waits for the unmount that is under way', async () => {
  const { roots, mounted } = setUp();
  await roots.acquire('c', snapshot);
  const released = roots.release('c', snapshot);
  await roots.acquire('c', snapshot);
  await released;
  expect(mounted()).toBe(1);
});
