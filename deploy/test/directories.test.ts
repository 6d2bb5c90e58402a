/** What root makes in the directories of services' users. */
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { copyCertificate } from '../src/stack/certificates.ts';
import { own } from '../src/stack/directories.ts';
import { writeOwnedFile } from '../src/stack/ownedFile.ts';

const user = { uid: 4321, gid: 4321 };
let root: string;
let [mine, outside] = ['', ''];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-directories-'));
  [mine, outside] = [join(root, 'mine'), join(root, 'outside')];
  mkdirSync(outside, { mode: 0o700 });
  writeFileSync(join(outside, 'file'), 'as it was', { mode: 0o600 });
  own(mine, 0o711, user.uid, user.gid);
});
afterEach(() => rmSync(root, { recursive: true }));

/** A link that the user has put in the way. */
function trap(path: string, target: string): void {
  symlinkSync(target, path);
  lchownSync(path, user.uid, user.gid);
}

function isUntouched(path: string): void {
  expect(statSync(path)).toMatchObject({ uid: 0, gid: 0 });
  expect(statSync(path).mode & 0o077).toBe(0);
}

describe('a file for a user', () => {
  it.each([
    ['text', (path: string) => writeOwnedFile(path, 'new', user)],
    ['copy', (path: string) => copyCertificate({ from: join(outside, 'copied'), to: path, ...user })],
  ])('is a new one, whatever its name led to (%s)', async (_name, write) => {
    const path = join(mine, 'file');
    writeFileSync(join(outside, 'copied'), 'new');
    for (const name of [path, `${path}.new`]) trap(name, join(outside, 'file'));
    await write(path);
    expect(readFileSync(path, 'utf8')).toBe('new');
    const made = lstatSync(path);
    expect([made.isFile(), made.mode & 0o777, made.uid, made.gid]).toEqual([true, 0o400, user.uid, user.gid]);
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('as it was');
    isUntouched(join(outside, 'file'));
  });
});

describe('a directory for a user', () => {
  it('is not made through a link of theirs', () => {
    trap(join(mine, 'api'), outside);
    expect(() => own(join(mine, 'api'), 0o2777, user.uid, user.gid)).toThrow("is a symbolic link of another user's");
    isUntouched(outside);
    isUntouched(join(outside, 'file'));
  });

  it("may be elsewhere by root's own link", () => {
    symlinkSync(mine, join(root, 'link'));
    own(join(root, 'link'), 0o750, user.uid, user.gid);
    expect(statSync(mine).mode & 0o777).toBe(0o750);
  });

  it('changes hands with all that is in it, and with nothing that is linked from it', () => {
    mkdirSync(join(mine, 'deep/er'), { recursive: true });
    writeFileSync(join(mine, 'deep/er/file'), '');
    trap(join(mine, 'deep/out'), outside);
    chmodSync(mine, 0o700);
    own(mine, 0o2711, 0, user.gid);
    for (const name of ['', 'deep', 'deep/er', 'deep/er/file', 'deep/out'])
      expect(lstatSync(join(mine, name))).toMatchObject({ uid: 0, gid: user.gid });
    expect(statSync(mine).mode & 0o7777).toBe(0o2711);
    isUntouched(outside);
    isUntouched(join(outside, 'file'));
  });
});
