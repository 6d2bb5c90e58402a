/** Patterns of paths, as Go's filepath.Match and moby's .dockerignore have them, matched by a table of states: what is written decides nothing about the time. */
import { InvalidParameter } from '@flotilla/errors';

/**
 * What comes next: a character, one of a class, any number of characters without slashes (`name`) or with them (`path`), or the directories of `**`,
 * which end in a slash (`directories`) and may be passed over (`maybe`, before them).
 */
type Step = number | CharacterClass | 'name' | 'path' | 'maybe' | 'directories';

interface CharacterClass {
  readonly isNegated: boolean;
  readonly ranges: readonly (readonly [low: number, high: number])[];
}

/** How many states may still be looked at. */
export interface Work {
  left: number;
}

const slash = 0x2f;
const notSlash: CharacterClass = { isNegated: true, ranges: [[slash, slash]] };

export class PathPattern {
  private readonly steps: readonly Step[];
  /** How many characters come before anything else. */
  private readonly plain: number;

  /** @param manner of Go (`*`, `?`, classes and escapes), or of moby, which has `**` too. @throws InvalidParameter `syntax error in pattern` */
  constructor(pattern: string, manner: 'go' | 'moby') {
    this.steps = read([...pattern], manner);
    const special = this.steps.findIndex((step) => typeof step !== 'number');
    this.plain = special === -1 ? this.steps.length : special;
  }

  /** @param part also whether the pattern is a directory that the path lies in. @throws InvalidParameter when there is no work left. */
  matches(path: readonly number[], part: 'whole' | 'parents', work: Work): boolean {
    for (let at = 0; at < this.plain; at++) {
      work.left--;
      if (this.steps[at] !== path[at]) return false;
    }
    let states: number[] = [];
    let next: number[] = [];
    this.enter(states, this.plain);
    for (let at = this.plain; ; at++) {
      const character = path[at];
      const isEnd = character === undefined || (part === 'parents' && character === slash && at > 0);
      if (isEnd && states[states.length - 1] === this.steps.length) return true;
      work.left -= states.length + 1;
      if (work.left < 0) throw new InvalidParameter('patterns take too long to be compared with the files');
      if (character === undefined || states.length === 0) return false;
      for (const state of states) this.follow(next, state, character);
      [states, next] = [next, states];
      next.length = 0;
    }
  }

  private follow(next: number[], state: number, character: number): void {
    const step = this.steps[state];
    if (step === 'path' || step === 'directories' || (step === 'name' && character !== slash)) this.enter(next, state);
    if (typeof step === 'number' ? step === character : typeof step === 'object' && isIn(step, character)) this.enter(next, state + 1);
    else if (step === 'directories' && character === slash) this.enter(next, state + 1);
  }

  /** States are in order, and each has after it those that may be passed on to: one that is not above the last is there. */
  private enter(states: number[], from: number): void {
    if (states.length > 0 && from <= (states[states.length - 1] ?? 0)) return;
    for (let state = from; ; state++) {
      states.push(state);
      const step = this.steps[state];
      if (step === 'maybe') states.push(++state);
      else if (step !== 'name' && step !== 'path') return;
    }
  }
}

/** As patterns compare it. */
export function charactersOf(path: string): number[] {
  return Array.from(path, codeOf);
}

function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0;
}

function isIn({ isNegated, ranges }: CharacterClass, character: number): boolean {
  return ranges.some(([low, high]) => low <= character && character <= high) !== isNegated;
}

function read(characters: readonly string[], manner: 'go' | 'moby'): Step[] {
  const steps: Step[] = [];
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i] ?? '';
    if (manner === 'moby' && character === '*' && characters[i + 1] === '*') {
      const isFirst = i === 0;
      i += characters[i + 2] === '/' ? 2 : 1;
      const rest = characters.slice(i + 1);
      // moby compares a plain end as it is: `**.log` is any name with that end.
      if (rest.length === 0 || (isFirst && characters[i] === '*' && !rest.some(isSpecial))) steps.push('path');
      else steps.push('maybe', 'directories');
    } else if (character === '*') {
      // Stars beside each other are one.
      if (steps.at(-1) !== 'name') steps.push('name');
    } else if (character === '?') steps.push(notSlash);
    else if (character === '[') {
      const { found, end } = readClass(characters, i);
      steps.push(found);
      i = end;
    } else if (character === '\\') steps.push(codeOf(characters[++i] ?? malformed()));
    else steps.push(codeOf(character));
  }
  return steps;
}

function isSpecial(character: string): boolean {
  return '*?[]\\'.includes(character);
}

function readClass(characters: readonly string[], start: number): { found: CharacterClass; end: number } {
  let i = start + 1;
  const isNegated = characters[i] === '^';
  if (isNegated) i++;
  const ranges: [number, number][] = [];
  const next = (): number => {
    const character = characters[i++];
    if (character === undefined || character === '-' || character === ']') return malformed();
    return codeOf(character === '\\' ? (characters[i++] ?? malformed()) : character);
  };
  while (characters[i] !== ']' || ranges.length === 0) {
    const low = next();
    if (characters[i] === '-') {
      i++;
      ranges.push([low, next()]);
    } else ranges.push([low, low]);
  }
  return { found: { isNegated, ranges }, end: i };
}

function malformed(): never {
  throw new InvalidParameter('syntax error in pattern');
}
