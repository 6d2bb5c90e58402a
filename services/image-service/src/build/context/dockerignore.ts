/** Patterns of a .dockerignore file, and of `COPY --exclude`, as moby matches them. */
import ignore from '@balena/dockerignore';
import { errorMessage, InvalidParameter, isInvalidParameter } from '@flotilla/errors';

const maxPatterns = 10_000;
/** What it may take to compare one path with all patterns: about a tenth of a second, in which nothing else is done. */
const mostWork = 20_000_000;

/** @returns whether a path (relative, without a slash at its start) is left out. @throws InvalidParameter for a pattern that is none, the filter too. */
export function contextFilter(patterns: string): (path: string) => boolean {
  const lines = linesOf(patterns);
  if (lines.length === 0) return () => false;
  if (lines.length > maxPatterns) throw new InvalidParameter(`more than ${maxPatterns} patterns in .dockerignore`);
  const work = workOf(lines);
  const rules = readable(() => ignore.default({ ignorecase: false }).add([...lines]));
  return (path) => {
    if (path === '' || path === '.') return false;
    if (work(path) > mostWork) throw new InvalidParameter(`too many patterns in .dockerignore for a path as deep as ${path.slice(0, 100)}`);
    return readable(() => rules.ignores(path));
  };
}

function linesOf(patterns: string): readonly string[] {
  return patterns
    .replace(/^\uFEFF/, '')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
}

/** A pattern with `**` is tried at every directory above a path, others at the path and one of them. */
function workOf(lines: readonly string[]): (path: string) => number {
  const deep = lines.filter((line) => line.includes('**')).length;
  return (path) => deep * path.length * path.split('/').length + lines.length * (path.length + 200);
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new InvalidParameter(`failed to parse .dockerignore: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * @returns whether what a COPY names is left out for certain. Exceptions make that a matter of what there is below it, and then nothing is certain, nor is
 * it with patterns that cannot be read, or when looking has taken too long; the whole context is left out only by a pattern for all that is in it.
 */
export function ignoredSources(patterns: string): (path: string) => boolean {
  if (hasExceptions(patterns)) return () => false;
  const work = workOf(linesOf(patterns));
  let left = mostWork;
  let ignores: ((path: string) => boolean) | undefined;
  const hidesAll = patterns.split('\n').some((line) => /^\s*(?:\*|\*\*|\*\*\/\*)\s*$/.test(line));
  return (path) => {
    if (path === '.' || path === '/') return hidesAll;
    left -= work(path);
    if (left < 0 || /^(?:\/|\.\.(?:\/|$))/.test(path)) return false;
    try {
      ignores ??= contextFilter(patterns);
      return ignores(path);
    } catch (error) {
      if (!isInvalidParameter(error)) throw error;
      left = 0;
      return false;
    }
  };
}

/** Whether something below a directory that is left out may be wanted all the same. */
export function hasExceptions(patterns: string): boolean {
  return patterns.split('\n').some((line) => line.trim().startsWith('!'));
}
