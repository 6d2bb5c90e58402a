import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { expect, test } from 'vitest';
import { startExec } from '../src/adapters/conmon.ts';
import { startTimeOf } from '../src/processes.ts';

test('the monitor of an exec that could not be put where it outlives the service starts nothing', async () => {
  const bundle = mkdtempSync(join(tmpdir(), 'conmon-'));
  try {
    const command = join(bundle, 'runtime');
    writeFileSync(command, `#!/bin/sh\n: > ${bundle}/began\n`, { mode: 0o755 });
    mkdirSync(join(bundle, 'exit'));
    const plain = { attach: false, terminal: false, stdin: false, leaveStdinOpen: false, ownNamespace: false };
    const options = {
      id: 'c',
      session: 'e',
      bundle,
      command,
      exitDirectory: join(bundle, 'exit'),
      processSpec: join(bundle, 'process.json'),
      ...plain,
    };
    let monitor = 0;
    const place = async (pid: number): Promise<void> => {
      monitor = pid;
      throw new Error('no such group');
    };
    await expect(startExec(options, async () => undefined, place)).rejects.toThrow('no such group');
    await waitFor(() => startTimeOf(monitor) === undefined, { what: 'the monitor to end' });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(readdirSync(bundle)).not.toContain('began');
  } finally {
    rmSync(bundle, { recursive: true });
  }
});
