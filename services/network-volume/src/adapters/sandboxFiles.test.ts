import { spawn } from 'node:child_process';
import { once } from 'node:events';
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

it('hosts keeps its lines whenever its writer is killed', async () => {
  const keeps = '127.0.0.1\tlocalhost\n172.18.0.2\tc\n';
  files.write('c', { hostname: '', hosts: keeps, resolvConf: '' });
  const editor = `import { SandboxFiles } from ${JSON.stringify(join(import.meta.dirname, 'sandboxFiles.ts'))};
    const files = new SandboxFiles(${JSON.stringify(folder)});
    for (let n = 0; ; n++) {
      files.editHosts('c', () => ${JSON.stringify(keeps)} + (n % 2 ? '172.19.0.2\\tc\\n' : ''));
      if (n === 10) process.stdout.write('begun');
    }`;
  for (let life = 0; life < 12; life++) {
    const writer = spawn(process.execPath, ['--input-type=module-typescript', '-e', editor], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(writer.stdout, 'data');
    await new Promise((resolve) => setTimeout(resolve, life));
    writer.kill('SIGKILL');
    await once(writer, 'exit');
    expect(readFileSync(files.paths('c').hosts, 'utf8').startsWith(keeps)).toBe(true);
  }
});

it('resolv.conf that was cut off between its hash and itself is still ours', () => {
  files.replaceResolvConf('c', 'old', 'next');
  writeFileSync(path, 'old');
  expect(replaced('next')).toBe('new');
});
