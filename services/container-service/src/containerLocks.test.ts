import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContainerLocks } from './containerLocks.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'locks-'));
  mkdirSync(join(directory, 'ship'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const locks = (patienceMs?: number): ContainerLocks => new ContainerLocks((id) => join(directory, id), patienceMs);

describe('the lock of a container', () => {
  it('lets one act after the other, whoever holds which lease', async () => {
    const told: string[] = [];
    const act = (name: string) => async (): Promise<void> => {
      told.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      told.push(`${name} ends`);
    };
    // Two instances of the service, each with its own descriptors.
    await Promise.all([locks().withLock('ship', act('one')), locks().withLock('ship', act('other'))]);
    expect(told).toEqual(['one begins', 'one ends', 'other begins', 'other ends']);
  });

  it('is given back by an act that fails', async () => {
    await expect(locks().withLock('ship', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await locks().withLock('ship', async () => 'yes')).toBe('yes');
  });

  it('is not waited for without end', async () => {
    let release = (): void => undefined;
    const held = locks().withLock('ship', () => new Promise<void>((resolve) => (release = resolve)));
    await expect(locks(30).withLock('ship', async () => undefined)).rejects.toMatchObject({ kind: 'Unavailable' });
    release();
    await held;
  });

  it('is of one container: others, and those without a directory, are not kept', async () => {
    await locks().withLock('ship', async () => {
      expect(await locks().withLock('gone', async () => 'free')).toBe('free');
    });
  });
});
