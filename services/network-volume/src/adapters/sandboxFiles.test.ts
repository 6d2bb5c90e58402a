import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SandboxFiles } from './sandboxFiles.ts';

let folder: string;
let path: string;
let files: SandboxFiles;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sandbox-files-'));
  files = new SandboxFiles(folder);
  path = files.write('c', { hostname: '', hosts: '', resolvConf: 'old' }).resolvConf;
});
afterEach(() => rmSync(folder, { recursive: true }));

function replaced(before: string): string {
  files.replaceResolvConf('c', before, 'new');
  return readFileSync(path, 'utf8');
}

it('resolv.conf is replaced unless somebody edited it', () => {
  expect(replaced('is not asked for')).toBe('new');
  writeFileSync(path, 'edited');
  expect(replaced('edited')).toBe('edited');
});

it('resolv.conf that was written before its hash was kept goes by what was written then', () => {
  rmSync(`${path}.hash`);
  expect(replaced('other')).toBe('old');
  expect(replaced('old')).toBe('new');
});
