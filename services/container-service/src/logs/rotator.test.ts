import { appendFile, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '@flotilla/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { holdBytes, lagBytes } from './lag.ts';
import { LogPins } from './pins.ts';
import { LogRotator, type LogWriter } from './rotator.ts';

const silent = { error: () => undefined } as unknown as Logger;
let directory: string;
let path: string;
let rotator: LogRotator;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flotilla-rotator-'));
  path = join(directory, 'log');
  rotator = new LogRotator(silent);
});
afterEach(async () => {
  rotator.stop();
  await rm(directory, { recursive: true, force: true });
});

class FakeWriter implements LogWriter {
  paused = false;
  isAlive = true;
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  alive(): boolean {
    return this.isAlive;
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('the condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the rotator', () => {
  it('rotates what has grown, and only that', async () => {
    await writeFile(path, 'x'.repeat(100));
    rotator.add('ship', { path, maxSizeBytes: 100, maxFiles: 2, reopen: () => writeFile(path, '') });
    await until(async () => (await readdir(directory)).sort().join() === 'log,log.1');
    expect((await stat(path)).size).toBe(0);
    await appendFile(path, 'y');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect((await readdir(directory)).sort()).toEqual(['log', 'log.1']);
  });

  it('holds a container back that is too far ahead of a reader, until that has read, left, or the container has ended', async () => {
    await writeFile(path, '');
    // Sparse: only the size counts.
    await truncate(path, holdBytes + 1);
    const { ino } = await stat(path);
    const pins = new LogPins();
    const writer = new FakeWriter();
    writer.paused = true;
    rotator.add('ship', { path, maxSizeBytes: Number.MAX_SAFE_INTEGER, maxFiles: 1, reopen: () => Promise.resolve(), pins, writer });
    // What a crash left stopped goes on.
    expect(writer.paused).toBe(false);
    const pin = pins.pin(path, ino, 0);
    await until(() => writer.paused);
    pin.offset = holdBytes;
    await until(() => !writer.paused);
    pin.offset = 0;
    await until(() => writer.paused);
    pin.release();
    await until(() => !writer.paused);
    const next = pins.pin(path, ino, 0);
    await until(() => writer.paused);
    writer.isAlive = false;
    await until(() => !writer.paused);
    next.release();
  });

  it('lets nothing stay held back', async () => {
    await writeFile(path, '');
    await truncate(path, holdBytes + 1);
    const pins = new LogPins();
    const writer = new FakeWriter();
    pins.pin(path, (await stat(path)).ino, 0);
    rotator.add('ship', { path, maxSizeBytes: Number.MAX_SAFE_INTEGER, maxFiles: 1, reopen: () => Promise.resolve(), pins, writer });
    await until(() => writer.paused);
    rotator.remove('ship');
    expect(writer.paused).toBe(false);
  });
});

describe('lag', () => {
  it('is that of the slowest reader, over all segments', async () => {
    await writeFile(`${path}.1`, 'x'.repeat(1000));
    await writeFile(path, 'x'.repeat(500));
    const pins = new LogPins();
    expect(lagBytes(path, pins)).toBe(0);
    pins.pin(path, (await stat(path)).ino, 400);
    expect(lagBytes(path, pins)).toBe(100);
    pins.pin(path, (await stat(`${path}.1`)).ino, 300);
    expect(lagBytes(path, pins)).toBe(1200);
    pins.pin(path, 0, 0);
    expect(lagBytes(path, pins)).toBe(1500);
  });
});
