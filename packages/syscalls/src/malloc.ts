/** malloc_trim(3): gives the free pages of every arena of the C library's allocator back to the kernel. */
import { libc } from './libc.ts';

const mallocTrim = libc.func('int malloc_trim(size_t padding)');

export function trimMemory(): void {
  mallocTrim(0);
}
