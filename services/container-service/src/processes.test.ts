import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openProcessRoot, startTimeOf } from './processes.ts';

describe('the root of a process', () => {
  const start = startTimeOf(process.pid) ?? '';

  it('is opened', () => {
    const root = openProcessRoot(process.pid, start);
    expect(root).toBeDefined();
    expect(statSync(`/proc/self/fd/${root}`).ino).toBe(statSync('/').ino);
    if (root !== undefined) closeSync(root);
  });

  it('is not taken for that of a later process with its number', () => {
    expect(openProcessRoot(process.pid, String(Number(start) - 1))).toBeUndefined();
  });

  it('is nowhere when the process is gone, or only its zombie is there', async () => {
    const child = spawn('true');
    const pid = child.pid ?? 0;
    const started = startTimeOf(pid) ?? '';
    await once(child, 'exit');
    expect(openProcessRoot(pid, started)).toBeUndefined();
  });
});
