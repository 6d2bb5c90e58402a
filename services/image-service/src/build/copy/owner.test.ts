import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findOwner, parseOwner } from './owner.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-owner-'));
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:\nrunner:x:100:65534::/:\nsame:x:7:8::/:\nbroken\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nsame:x:9:\nnogroup:x:65534:\n');
});
afterAll(() => rmSync(root, { recursive: true }));

describe('an owner', () => {
  it.each<[string, 'classic' | 'buildkit', string]>([
    ['5', 'classic', '5:5'],
    ['5', 'buildkit', '5:5'],
    ['5:6', 'buildkit', '5:6'],
    ['same', 'classic', '7:9'],
    ['same', 'buildkit', '7:8'],
    ['runner', 'buildkit', '100:65534'],
    ['runner:same', 'buildkit', '100:9'],
    ['runner:1', 'classic', '100:1'],
  ])('%s with the %s builder is %s', (text, manner, owner) => {
    const { uid, gid } = parseOwner(text, root, manner);
    expect(`${uid}:${gid}`).toBe(owner);
  });

  it('is no group of that name with BuildKit', () => {
    expect(findOwner('nogroup', root, 'buildkit')).toEqual({ uid: undefined, gid: undefined });
    expect(findOwner('nogroup', root, 'classic')).toEqual({ uid: undefined, gid: 65534 });
  });

  it.each<[string, 'classic' | 'buildkit', string]>([
    ['runner', 'classic', "can't find gid for group runner: no such group: runner"],
    ['stranger', 'buildkit', "can't find uid for user stranger: no such user: stranger"],
    ['broken', 'buildkit', "can't find uid for user broken"],
    ['runner:none', 'buildkit', "can't find gid for group none"],
    ['a:b:c', 'classic', 'invalid chown string format: a:b:c'],
  ])('%s with the %s builder is refused', (text, manner, message) => {
    expect(() => parseOwner(text, root, manner)).toThrow(message);
  });
});
