/** The bundle of a program, made from this checkout as `flotilla up` makes it. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { bundleOf } from '../src/stack/bundle.ts';
import { codeRoot } from '../src/stack/paths.ts';

const fail = (line: string): void => {
  throw new Error(line);
};
const main = 'deploy/src/supervisor/main.ts';

describe('a bundle', () => {
  it('is made once for what the sources are, in characters that take a byte each', async () => {
    const path = await bundleOf(main, 'supervisor', fail);
    expect(path).toMatch(/^\.cache\/bundle\/[0-9a-f]{16}\/supervisor\.mjs$/);
    const { ino } = statSync(join(codeRoot, path));
    expect(await bundleOf(main, 'supervisor', fail)).toBe(path);
    expect(statSync(join(codeRoot, path)).ino).toBe(ino);
    expect(readFileSync(join(codeRoot, path), 'utf8')).not.toMatch(/[^\0-\x7f]/);
  });

  it('has short names for what a stack trace does not tell', async () => {
    const code = readFileSync(join(codeRoot, await bundleOf(main, 'supervisor', fail)), 'utf8');
    const told = (name: RegExp): boolean => name.test(code);
    expect([/function runSupervisor\(/, /\bSupervisor=class\b/, /\bplanPath\b/].map(told)).toEqual([true, true, false]);
  });

  it('runs as its main file does', async () => {
    const path = await bundleOf(main, 'supervisor', fail);
    for (const file of [path, main]) {
      const run = promisify(execFile)(process.execPath, [join(codeRoot, file)]);
      await expect(run).rejects.toMatchObject({ code: 2, stderr: 'this is started by: flotilla up\n' });
    }
  });

  it('goes when it is old and no process runs from it', async () => {
    const path = await bundleOf(main, 'supervisor', fail);
    const bundles = join(codeRoot, dirname(dirname(path)));
    const old = Array.from({ length: 10 }, (_unused, index) => join(bundles, `${index}`.padStart(16, 'f')));
    const running = spawn('sleep', ['60'], { argv0: join(old[0] ?? '', 'supervisor.mjs') });
    try {
      for (const [index, directory] of old.entries()) {
        mkdirSync(directory, { recursive: true });
        utimesSync(directory, index, index);
      }
      expect(await bundleOf(main, 'supervisor', fail)).toBe(path);
      expect(old.slice(0, 3).map((directory) => existsSync(directory))).toEqual([true, false, false]);
    } finally {
      running.kill();
      for (const directory of old) rmSync(directory, { recursive: true, force: true });
    }
  });

  it('is done without where it cannot be made', async () => {
    const warnings: string[] = [];
    expect(await bundleOf('deploy/src/no/main.ts', 'none', (line) => warnings.push(line))).toBe('deploy/src/no/main.ts');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/^none runs from its sources and takes more memory: /);
  });
});
