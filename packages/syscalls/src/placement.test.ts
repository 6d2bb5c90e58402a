import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { spreadDirectories } from './placement.ts';

const ext4 = 0xef53;

it('marks a directory of ext4, and says of others that they cannot be', () => {
  const folder = mkdtempSync(join(tmpdir(), 'placement-'));
  try {
    const isExt4 = statfsSync(folder).type === ext4;
    expect([spreadDirectories(folder), spreadDirectories(folder)]).toEqual([isExt4, isExt4]);
    if (isExt4) expect(execFileSync('lsattr', ['-d', folder], { encoding: 'utf8' }).split(' ', 1)[0]).toContain('T');
    expect(spreadDirectories('/proc/self')).toBe(false);
    expect(() => spreadDirectories(join(folder, 'none'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
