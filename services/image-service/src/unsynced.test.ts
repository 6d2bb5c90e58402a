import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Unsynced } from './unsynced.ts';

it('who leaves takes its notes away, and what is under way is waited for', async () => {
  const root = mkdtempSync(join(tmpdir(), 'flotilla-unsynced-'));
  try {
    const failures: unknown[] = [];
    const unsynced = new Unsynced(root, (error) => failures.push(error));
    const notes = (): string[] => readdirSync(join(root, 'unsynced'));
    await unsynced.close();
    unsynced.note('blob', `sha256:${'1'.repeat(64)}`);
    unsynced.note('layer', `sha256:${'2'.repeat(64)}`);
    expect(notes()).toHaveLength(2);
    await unsynced.close();
    expect(notes()).toEqual([]);
    expect(failures).toEqual([]);
  } finally {
    rmSync(root, { recursive: true });
  }
});
