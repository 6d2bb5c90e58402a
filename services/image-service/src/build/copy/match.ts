/** Go's filepath.Match for one path component: `*`, `?`, classes and escapes. */
import { InvalidParameter } from '@flotilla/errors';

/** @throws InvalidParameter `syntax error in pattern` */
export function matchName(pattern: string, name: string): boolean {
  return compiled(pattern).test(name);
}

const patterns = new Map<string, RegExp>();
const mostPatterns = 256;

function compiled(pattern: string): RegExp {
  const known = patterns.get(pattern);
  if (known !== undefined) return known;
  const made = new RegExp(`^${translate(pattern)}$`, 'su');
  if (patterns.size >= mostPatterns) patterns.clear();
  patterns.set(pattern, made);
  return made;
}

function translate(pattern: string): string {
  const characters = [...pattern];
  let source = '';
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i] ?? '';
    // Stars beside each other are one: several would make matching slow.
    if (character === '*') source += source.endsWith('[^/]*') ? '' : '[^/]*';
    else if (character === '?') source += '[^/]';
    else if (character === '[') {
      const { text, end } = characterClass(characters, i);
      source += text;
      i = end;
    } else if (character === '\\') {
      i++;
      source += literal(characters[i] ?? malformed());
    } else source += literal(character);
  }
  return source;
}

function characterClass(characters: readonly string[], start: number): { text: string; end: number } {
  let i = start + 1;
  let text = '[';
  if (characters[i] === '^') {
    text += '^';
    i++;
  }
  let count = 0;
  const next = (): string => {
    let character = characters[i++];
    if (character === undefined || character === '-' || character === ']') return malformed();
    if (character === '\\') character = characters[i++] ?? malformed();
    return character;
  };
  while (characters[i] !== ']' || count === 0) {
    const low = next();
    let high = low;
    if (characters[i] === '-') {
      i++;
      high = next();
    }
    if ((low.codePointAt(0) ?? 0) <= (high.codePointAt(0) ?? 0)) text += low === high ? literal(low) : `${literal(low)}-${literal(high)}`;
    count++;
  }
  return { text: `${text}]`, end: i };
}

function literal(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

function malformed(): never {
  throw new InvalidParameter('syntax error in pattern');
}
