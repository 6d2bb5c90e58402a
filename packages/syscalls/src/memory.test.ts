import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cleanMappings, releaseProgramPages } from './memory.ts';

const program = '/opt/node';
const smaps = `00400000-00800000 r--p 00000000 08:01 42 /opt/node
Rss:                4096 kB
Anonymous:             0 kB
Swap:                  0 kB
00800000-00900000 r-xp 00400000 08:01 42 /opt/node
Anonymous:             0 kB
Swap:                  0 kB
00900000-00910000 r--p 00500000 08:01 42 /opt/node
Anonymous:            64 kB
Swap:                  0 kB
00910000-00914000 r--p 00510000 08:01 42 /opt/node
Anonymous:             0 kB
Swap:                 16 kB
00914000-00920000 rw-p 00514000 08:01 42 /opt/node
Anonymous:             0 kB
Swap:                  0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 43 /usr/lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
`;

function residentKiB(path: string): number {
  let inside = false;
  let sum = 0;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (/^[0-9a-f]+-/.test(line)) inside = line.endsWith(` ${path}`);
    else if (inside && line.startsWith('Rss:')) sum += Number.parseInt(line.slice(4), 10);
  }
  return sum;
}

describe('pages of the program', () => {
  it('are those that only the file holds: nothing writable, relocated, in swap, or of another file', () => {
    expect(cleanMappings(smaps, program)).toEqual([
      { start: 0x400000n, end: 0x800000n },
      { start: 0x800000n, end: 0x900000n },
    ]);
  });

  it('leave this process, which goes on', () => {
    const before = residentKiB(process.execPath);
    releaseProgramPages();
    expect(residentKiB(process.execPath)).toBeLessThan(before * 0.8);
    expect(JSON.parse('{"goes":"on"}')).toEqual({ goes: 'on' });
  });
});
