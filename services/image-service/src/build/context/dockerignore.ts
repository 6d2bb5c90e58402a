/** Patterns of a .dockerignore file, and of `COPY --exclude`, as moby matches them. */
import { posix } from 'node:path';
import { errorMessage, InvalidParameter, isInvalidParameter } from '@flotilla/errors';
import { charactersOf, PathPattern, type Work } from '../pathPattern.ts';

const maxPatterns = 10_000;
const maxCharacters = 4 * 1024 * 1024;
/** What it may take to compare one path with all patterns: about a tenth of a second, in which nothing else is done. */
const mostWork = 4_000_000;

/** Whether a path (relative, without a slash at its start) is left out. @throws InvalidParameter for a path that would take too long. */
export type ContextFilter = (path: string) => boolean;

/** @param text of a .dockerignore file. @throws InvalidParameter for a pattern that is none. */
export function contextFilter(text: string): ContextFilter {
  try {
    return patternFilter(ignoreLines(text));
  } catch (cause) {
    throw new InvalidParameter(`failed to parse .dockerignore: ${errorMessage(cause)}`, { cause });
  }
}

/** The patterns of a .dockerignore file, each as short as it can be said. */
export function ignoreLines(text: string): string[] {
  return text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => (line.startsWith('!') ? `!${cleanPattern(line.slice(1).trim())}` : cleanPattern(line)));
}

function cleanPattern(pattern: string): string {
  return pattern === '' ? '' : fromRoot(withoutSlash(posix.normalize(pattern)));
}

/** A pattern begins where the context does, whether or not a slash says so. */
function fromRoot(pattern: string): string {
  return pattern.replace(/^\/(?=.)/, '');
}

function withoutSlash(path: string): string {
  return path.replace(/(?<=.)\/$/, '');
}

interface Rule {
  readonly isException: boolean;
  readonly pattern: PathPattern;
}

/** The last pattern that matches a path, or a directory that it is in, decides. @throws InvalidParameter in moby's words for a pattern that is none. */
export function patternFilter(patterns: readonly string[], workFor: () => Work = () => ({ left: mostWork })): ContextFilter {
  if (patterns.length > maxPatterns) throw new InvalidParameter(`more than ${maxPatterns} patterns`);
  if (patterns.reduce((sum, { length }) => sum + length, 0) > maxCharacters) throw new InvalidParameter('the patterns are too long');
  const rules = patterns.flatMap((pattern) => readRule(pattern.trim()) ?? []);
  if (rules.length === 0) return () => false;
  return (path) => {
    if (path === '' || path === '.') return false;
    const characters = charactersOf(path);
    const work = workFor();
    let ignored = false;
    for (const { isException, pattern } of rules) {
      if (isException === ignored && pattern.matches(characters, 'parents', work)) ignored = !ignored;
    }
    return ignored;
  };
}

function readRule(text: string): Rule | undefined {
  if (text === '') return undefined;
  const clean = withoutSlash(posix.normalize(text));
  if (clean === '!') throw new InvalidParameter('illegal exclusion pattern: "!"');
  const isException = clean.startsWith('!');
  return { isException, pattern: new PathPattern(fromRoot(isException ? clean.slice(1) : clean), 'moby') };
}

/**
 * @returns whether what a COPY names is left out for certain. Exceptions make that a matter of what there is below it, and then nothing is certain, nor is
 * it with patterns that cannot be read, or when looking has taken too long; the whole context is left out only by a pattern for all that is in it.
 */
export function ignoredSources(text: string): (path: string) => boolean {
  if (hasExceptions(text)) return () => false;
  const lines = ignoreLines(text);
  const work = { left: mostWork };
  let ignores: ContextFilter | undefined;
  const hidesAll = lines.some((line) => ['*', '**', '**/*'].includes(line));
  return (path) => {
    if (path === '.' || path === '/') return hidesAll;
    if (work.left < 0 || /^(?:\/|\.\.(?:\/|$))/.test(path)) return false;
    try {
      ignores ??= patternFilter(lines, () => work);
      return ignores(path);
    } catch (error) {
      if (!isInvalidParameter(error)) throw error;
      work.left = -1;
      return false;
    }
  };
}

/** Whether something below a directory that is left out may be wanted all the same. */
export function hasExceptions(text: string): boolean {
  return ignoreLines(text).some((line) => line.startsWith('!'));
}
