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
 * would lose it, also when it is in swap by now.
 */
export function cleanMappings(smaps: string, path: string): Mapping[] {
  const found: Mapping[] = [];
  let current: Mapping | undefined;
  let isClean = false;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+\s+(.*)$/.exec(line);
    if (head !== null) {
      const isOurs = /^r-[-x]p$/.test(head[3] ?? '') && head[4] === path;
      current = isOurs ? { start: BigInt(`0x${head[1]}`), end: BigInt(`0x${head[2]}`) } : undefined;
      isClean = false;
    } else if (line.startsWith('Anonymous:')) isClean = holdsNothing(line);
    else if (line.startsWith('Swap:') && current !== undefined && isClean && holdsNothing(line)) found.push(current);
  }
  return found;
}

function holdsNothing(line: string): boolean {
  return /:\s+0 kB$/.test(line);
}

/** Looked up once, when the program has long been relocated: a look takes five milliseconds, and nothing is written there any more (but for a debugger's breakpoints). */
let programPages: readonly Mapping[] | undefined;

/**
 * Unmaps the pages of the running program's file, which is never unmapped as a whole. The kernel has them in its page cache still: those that are used again come
 * back by minor faults, and those that only starting or a load needed no longer count as this process' memory.
 */
export function releaseProgramPages(): void {
  programPages ??= cleanMappings(readFileSync('/proc/self/smaps', 'utf8'), process.execPath);
  for (const { start, end } of programPages) checked(madvise(start, end - start, dontNeed), 'madvise');
}
