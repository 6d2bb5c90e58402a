/** The bundle of a program, made from this checkout as `flotilla up` makes it. */
import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
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

  it('runs as its main file does', async () => {
    const path = await bundleOf(main, 'supervisor', fail);
    for (const file of [path, main]) {
      const run = promisify(execFile)(process.execPath, [join(codeRoot, file)]);
      await expect(run).rejects.toMatchObject({ code: 2, stderr: 'this is started by: flotilla up\n' });
    }
  });

  it('is done without where it cannot be made', async () => {
    const warnings: string[] = [];
    expect(await bundleOf('deploy/src/no/main.ts', 'none', (line) => warnings.push(line))).toBe('deploy/src/no/main.ts');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/^none runs from its sources and takes more memory: /);
  });
});
