import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runtimePoints } from './runtimePoints.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-points-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** A directory with files of these paths; one that ends in a slash is a directory. */
function tree(name: string, paths: Readonly<Record<string, string>>): string {
  const directory = join(root, name);
  mkdirSync(directory);
  for (const [path, content] of Object.entries(paths)) {
    mkdirSync(join(directory, path.endsWith('/') ? path : dirname(path)), { recursive: true });
    if (!path.endsWith('/')) writeFileSync(join(directory, path), content);
  }
  return directory;
}

const made = { 'etc/hosts': '', 'etc/hostname': '', 'etc/resolv.conf': '', 'dev/pts/': '', 'proc/': '' };

describe('what the runtime makes', () => {
  it('is found, with the directory that it only touched', () => {
    const found = runtimePoints(tree('upper', made), [tree('lower', { 'etc/passwd': '' })]);
    expect(found.sort()).toEqual(['dev', 'dev/pts', 'etc', 'etc/hostname', 'etc/hosts', 'etc/resolv.conf', 'proc']);
  });

  it('is not what the image has or the container wrote', () => {
    const upper = tree('upper', { ...made, 'etc/own': 'x', 'proc/own': '', 'etc/hostname': 'content' });
    expect(runtimePoints(upper, [tree('lower', { 'etc/hosts': 'kept' })]).sort()).toEqual(['dev', 'dev/pts', 'etc/resolv.conf']);
  });

  it('leaves a directory whose mode was changed', () => {
    const upper = tree('upper', made);
    chmodSync(join(upper, 'etc'), 0o700);
    expect(runtimePoints(upper, [tree('lower', { 'etc/passwd': '' })])).not.toContain('etc');
  });
});
