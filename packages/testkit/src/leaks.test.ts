import { describe, expect, it } from 'vitest';
import { compareSnapshots, normalise } from './leaks.ts';

describe('comparing snapshots', () => {
  it('takes identifiers for the same thing', () => {
    expect(normalise(`cgroup /docker/${'ab12'.repeat(16)}`)).toBe('cgroup /docker/*');
    expect(normalise('link veth1a2b3c')).toBe('link veth*');
    expect(normalise('mount /run/netns/slot-17')).toBe('mount /run/netns/slot-*');
  });

  it('tells what there is more of, and nothing else', () => {
    const before = new Map([
      ['link veth*', 2],
      ['process conmon', 1],
    ]);
    const after = new Map([
      ['link veth*', 3],
      ['file cache', 1],
    ]);
    expect(compareSnapshots(before, after, [/^file cache/])).toEqual(['link veth*: 3, before 2']);
  });
});
