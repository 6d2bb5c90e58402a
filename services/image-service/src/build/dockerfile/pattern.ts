/** A shell's patterns (`*`, `?`, `\x`) against a value: `${x#p}`, `${x%p}`, `${x/p/r}`. Matching is by table, so that no pattern is slow. */

interface Token {
  readonly kind: 'any' | 'one' | 'literal';
  readonly character: string;
}

/** Characters of a value times those of a pattern, for what is looked for at every place. */
const maxWork = 4_000_000;

function tokens(pattern: string): Token[] {
  const found: Token[] = [];
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i] ?? '';
    if (character === '*') {
      if (found.at(-1)?.kind !== 'any') found.push({ kind: 'any', character });
    } else if (character === '?') found.push({ kind: 'one', character });
    else if (character === '\\' && i + 1 < pattern.length) found.push({ kind: 'literal', character: pattern[++i] ?? '' });
    else found.push({ kind: 'literal', character });
  }
  return found;
}

/** The ends (exclusive) of all matches of a pattern that begin at a place, in ascending order. */
function matchEnds(value: string, start: number, pattern: readonly Token[]): number[] {
  let states = new Set([0]);
  const ends: number[] = [];
  const closed = (from: Iterable<number>): Set<number> => {
    const all = new Set<number>();
    for (const state of from) {
      let at = state;
      all.add(at);
      while (pattern[at]?.kind === 'any') all.add(++at);
    }
    return all;
  };
  states = closed(states);
  for (let at = start; ; at++) {
    if (states.has(pattern.length)) ends.push(at);
    const character = value[at];
    if (character === undefined || states.size === 0) return ends;
    const next: number[] = [];
    for (const state of states) {
      const token = pattern[state];
      if (token === undefined) continue;
      if (token.kind === 'any') next.push(state);
      else if (token.kind === 'one' || token.character === character) next.push(state + 1);
    }
    states = closed(next);
  }
}

function bounded(work: number): void {
  if (work > maxWork) throw new Error('value or pattern of a substitution is too long');
}

/** Without the shortest, or longest, start that matches. */
export function trimPrefix(value: string, pattern: string, longest: boolean): string {
  bounded(value.length * pattern.length);
  const ends = matchEnds(value, 0, tokens(pattern));
  const end = longest ? ends.at(-1) : ends[0];
  return end === undefined ? value : value.slice(end);
}

/** Without the shortest, or longest, end that matches. */
export function trimSuffix(value: string, pattern: string, longest: boolean): string {
  bounded(value.length * pattern.length);
  // A pattern backwards matches the value backwards.
  const reversed = [...value].reverse().join('');
  const ends = matchEnds(reversed, 0, tokens(pattern).reverse());
  const end = longest ? ends.at(-1) : ends[0];
  return end === undefined ? value : [...reversed.slice(end)].reverse().join('');
}

/** With the first match, or all, replaced; each as long as it can be. */
export function replacePattern(value: string, pattern: string, replacement: string, all: boolean): string {
  // Without a star a match is as long as its pattern.
  bounded(value.length * pattern.length * (pattern.includes('*') ? value.length : 1));
  const wanted = tokens(pattern);
  if (wanted.length === 0) return value;
  let result = '';
  let at = 0;
  while (at < value.length) {
    const end = matchEnds(value, at, wanted).at(-1);
    if (end === undefined || end === at) {
      result += value[at++];
      continue;
    }
    result += replacement;
    at = end;
    if (!all) break;
  }
  return result + value.slice(at);
}
