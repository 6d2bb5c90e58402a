import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buildTar } from '@flotilla/testkit';
import { expect, it } from 'vitest';
import { openContext } from './open.ts';

it('a context whose .dockerignore is larger than any is refused and leaves nothing', async () => {
  const work = mkdtempSync(join(tmpdir(), 'flotilla-context-'));
  try {
    const ignoreFile = Buffer.alloc(16 * 1024 * 1024 + 1, '\n');
    const tar = await buildTar([
      { path: 'Dockerfile', content: 'FROM scratch\n' },
      { path: '.dockerignore', content: ignoreFile },
    ]);
    const opened = openContext({ body: Readable.from([tar]), remote: '', dockerfile: '', work, signal: AbortSignal.timeout(15_000) });
    await expect(opened).rejects.toThrow('.dockerignore is too large');
    expect(existsSync(work)).toBe(false);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
