/** A machine that loses its power: an ext4 of our own is shut down with all it has not written, as `FS_IOC_SHUTDOWN` does for file systems' own tests. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { buildImage, pushImage, randomBytesOf, startRegistry, type TestImage, type TestRegistry, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;
let memory: string;
let disk: string;
let pulls = 0;
let copies = 0;

const fileBytes = 3_000_000;
const path = (folder: string): string => join(stack.dataRoot, folder);
const contentOf = (image: TestImage): string => path(`layers/${image.layers[0]?.diffId.slice(7)}/diff/file`);

async function pushed(name: string): Promise<TestImage> {
  const image = await buildImage({ layers: [[{ path: 'file', content: randomBytesOf(fileBytes, name) }]] });
  await pushImage(image, { address: registry.address, repository: name, tag: 'latest' });
  return image;
}

const pull = (name: string): Promise<unknown> => stack.pull(`${registry.address}/${name}`);

/**
 * An image of which the disk has nothing yet: image-service, which is stopped here, tells it to write two seconds after the first of it is there, and a slow
 * pull is not over by then.
 */
async function pulledUnwritten(): Promise<{ name: string; image: TestImage }> {
  for (let attempt = 1; attempt <= 20; attempt++) {
    const name = `lost${++pulls}`;
    const image = await pushed(name);
    await waitFor(() => readdirSync(path('unsynced')).length === 0, { what: 'the disk to have what is before' });
    const began = performance.now();
    await pull(name);
    stack.signal('image-service', 'SIGSTOP');
    if (performance.now() - began < 2_000) return { name, image };
    stack.signal('image-service', 'SIGCONT');
  }
  throw new Error('no pull of 20 was over in two seconds');
}

/** An image whose layer has its place and its names after a power cut, and none of its bytes. image-service does not run then. */
async function lostInPowerCut(): Promise<{ name: string; image: TestImage }> {
  for (let attempt = 1; attempt <= 5; attempt++) {
    const { name, image } = await pulledUnwritten();
    losePower();
    await stack.kill('image-service');
    mountCopy();
    if (statSync(contentOf(image)).size === 0) return { name, image };
    // sync(2) of anybody is for all disks.
    await stack.startService('image-service');
  }
  throw new Error('the disk had all of five images before its power went');
}

/**
 * What is on the disk, as the next boot finds it. In a copy: namespaces that other tests made meanwhile have the old mount too, and whoever mounts the same
 * disk is given what it still has in memory.
 */
function mountCopy(): void {
  execFileSync('umount', [stack.dataRoot]);
  const copy = join(memory, `disk${++copies}.img`);
  execFileSync('cp', ['--sparse=always', disk, copy]);
  rmSync(disk);
  disk = copy;
  execFileSync('mount', ['-o', 'loop', disk, stack.dataRoot]);
}

/** All that the disk was not told to write is lost; what its journal has stays. */
function losePower(): void {
  // Any program that syncs a file of its own writes the journal for all.
  const directory = openSync(path('layers'), 'r');
  fsyncSync(directory);
  closeSync(directory);
  const shutdown = 'open(F, "<", $ARGV[0]) or die; my $flags = pack("L", 2); ioctl(F, 0x8004587d, $flags) or die $!';
  writeFileSync(path('any'), '');
  execFileSync('perl', ['-e', shutdown, path('any')]);
}

async function damage(): Promise<string[]> {
  const found: string[] = [];
  for await (const { kind, detail, orphan } of stack.disk.check({ repair: false }, { signal: AbortSignal.timeout(30_000) })) {
    if (kind !== 'summary' && !orphan) found.push(`${kind} ${detail}`);
  }
  return found;
}

describe('after a power cut', () => {
  beforeAll(async () => {
    registry = await startRegistry();
    stack = await Stack.start({
      prepare: (dataRoot) => {
        memory = `${dataRoot}.memory`;
        disk = join(memory, 'disk.img');
        mkdirSync(dataRoot, { recursive: true });
        // In memory: how slow this machine's own disk is does not matter here.
        mkdirSync(memory);
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=600m', 'flotilla-power-cut', memory]);
        writeFileSync(disk, '');
        // The store leaves 256 MiB of any disk to others.
        truncateSync(disk, 512 * 1024 * 1024);
        execFileSync('mkfs.ext4', ['-qF', disk]);
        execFileSync('mount', ['-o', 'loop', disk, dataRoot]);
      },
    });
  });
  afterAll(async () => {
    await stack?.kill('image-service');
    try {
      execFileSync('umount', [stack.dataRoot]);
      // Those other namespaces have it too.
      execFileSync('umount', ['--lazy', memory]);
    } finally {
      await stack?.stop();
      await registry?.stop();
    }
  });

  it('nothing half is taken for whole: what was written stays, what can be mended is, and the rest is pulled again', async () => {
    const settled = await pushed('settled');
    await pull('settled');
    await stack.snapshots.prepare({ key: 'container', imageId: settled.id });
    const { name, image: lost } = await lostInPowerCut();
    expect(statSync(contentOf(settled)).size).toBe(fileBytes);

    // This machine has not been started anew: its notes become those of another boot. A layer whose blob is sound is spoiled as well.
    for (const note of readdirSync(path('unsynced')))
      renameSync(join(path('unsynced'), note), join(path('unsynced'), note.replace(/^[^.]+/, 'before')));
    writeFileSync(join(path('unsynced'), `before.layer.${settled.layers[0]?.diffId.replace(':', '-')}.1`), '');
    truncateSync(contentOf(settled), 1000);
    const unknown = path(`layers/${'1'.repeat(64)}`);
    mkdirSync(join(unknown, 'diff'), { recursive: true });
    writeFileSync(join(unknown, 'size'), '0\n');
    writeFileSync(join(path('unsynced'), `before.layer.sha256-${'1'.repeat(64)}.1`), '');
    rmSync(path('any'), { force: true });

    await stack.startService('image-service');
    expect(statSync(contentOf(settled)).size).toBe(fileBytes);
    expect(existsSync(contentOf(lost))).toBe(false);
    expect(existsSync(unknown)).toBe(false);
    expect(await damage()).toContain('layer has no sound blob to be compared with: pull or load its image again');
    await pull(name);
    expect(statSync(contentOf(lost)).size).toBe(fileBytes);
    expect(await damage()).toEqual([]);
    await waitFor(() => readdirSync(path('unsynced')).length === 0, { what: 'the disk to have it all' });
  });
});
