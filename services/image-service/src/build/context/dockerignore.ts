/** Patterns of a .dockerignore file, and of `COPY --exclude`, as moby matches them. */
import ignore from '@balena/dockerignore';
import { errorMessage, InvalidParameter } from '@flotilla/errors';

const maxPatterns = 10_000;

/** @returns whether a path (relative, without a slash at its start) is left out. @throws InvalidParameter for a pattern that is none. */
export function contextFilter(patterns: string): (path: string) => boolean {
  const lines = patterns
    .replace(/^\uFEFF/, '')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
  if (lines.length === 0) return () => false;
  if (lines.length > maxPatterns) throw new InvalidParameter(`more than ${maxPatterns} patterns in .dockerignore`);
  try {
    const rules = ignore.default().add(lines);
    return (path) => path !== '' && path !== '.' && rules.ignores(path);
  } catch (cause) {
    throw new InvalidParameter(`failed to parse .dockerignore: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * @returns whether what a COPY names is left out for certain. Exceptions make that a matter of what there is below it, and then nothing is certain; the whole
 * context is left out only by a pattern for all that is in it.
 */
export function ignoredSources(patterns: string): (path: string) => boolean {
  if (hasExceptions(patterns)) return () => false;
  const ignores = contextFilter(patterns);
  const hidesAll = patterns.split('\n').some((line) => /^\s*(?:\*|\*\*|\*\*\/\*)\s*$/.test(line));
  return (path) => {
    if (path === '.' || path === '/') return hidesAll;
    return !/^(?:\/|\.\.(?:\/|$))/.test(path) && ignores(path);
  };
}

/** Whether something below a directory that is left out may be wanted all the same. */
export function hasExceptions(patterns: string): boolean {
  return patterns.split('\n').some((line) => line.trim().startsWith('!'));
}
