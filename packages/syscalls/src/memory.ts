/** What a process can give back of its memory: free pages of malloc, and pages of the program that only starting needed. */
import { readFileSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const mallocTrim = libc.func('int malloc_trim(size_t padding)');
const madvise = libc.func('int madvise(size_t address, size_t length, int advice)');
const dontNeed = 4;

/** malloc_trim(3): gives the free pages of every arena of the C library's allocator back to the kernel. */
export function trimMemory(): void {
  mallocTrim(0);
}

interface Mapping {
  readonly start: bigint;
  readonly end: bigint;
}

/**
 * The read-only mappings of `path` in the text of a smaps file that hold no page of the process' own: where something was written (relocations), dropping a page
 * would lose it.
 */
export function cleanMappings(smaps: string, path: string): Mapping[] {
  const found: Mapping[] = [];
  let current: Mapping | undefined;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ \S+\s+(.*)$/.exec(line);
    if (head !== null) current = head[3] === path ? { start: BigInt(`0x${head[1]}`), end: BigInt(`0x${head[2]}`) } : undefined;
    else if (/^[0-9a-f]+-/.test(line)) current = undefined;
    else if (line.startsWith('Anonymous:') && current !== undefined) {
      if (/^Anonymous:\s+0 kB$/.test(line)) found.push(current);
      current = undefined;
    }
  }
  return found;
}

/**
 * Unmaps the pages of the running program's file, which is never unmapped as a whole. The kernel has them in its page cache still: those that are used again come
 * back by minor faults, and those that only starting needed no longer count as this process' memory.
 */
export function releaseProgramPages(): void {
  for (const { start, end } of cleanMappings(readFileSync('/proc/self/smaps', 'utf8'), process.execPath)) {
    checked(madvise(start, end - start, dontNeed), 'madvise');
  }
}
