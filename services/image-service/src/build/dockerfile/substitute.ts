/** Variables, quotes and escapes in a word, as a shell has them. @see docs.docker.com Dockerfile reference, environment replacement */
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import { replacePattern, trimPrefix, trimSuffix } from './pattern.ts';

const maxDepth = 50;
const maxLength = 1024 * 1024;

/** Values by their names. */
export type Variables = Pick<ReadonlyMap<string, string>, 'get'>;

/** @throws InvalidParameter for quotes or braces without an end, and where `${x:?}` says so. */
export function expand(word: string, variables: Variables, escapeToken: string): string {
  return run(word, variables, escapeToken).text;
}

/** As {@link expand}; blanks that come of a variable outside of quotes part words. */
export function expandWords(word: string, variables: Variables, escapeToken: string): string[] {
  return run(word, variables, escapeToken).words;
}

/** A here-document: variables are replaced, quotes are only quotes. @throws InvalidParameter */
export function expandText(text: string, variables: Variables, escapeToken: string): string {
  return run(text, variables, escapeToken, true).text;
}

function run(word: string, variables: Variables, escapeToken: string, keepsQuotes = false): { text: string; words: string[] } {
  try {
    const lexer = new Lexer(word, variables, escapeToken, keepsQuotes);
    const words = new Words();
    return { text: lexer.until(undefined, words, 0), words: words.end() };
  } catch (cause) {
    throw new InvalidParameter(`failed to process ${JSON.stringify(word)}: ${errorMessage(cause)}`, { cause });
  }
}

/** Gathers words beside the whole text. */
class Words {
  private readonly words: string[] = [];
  private current = '';
  private inWord = false;

  /** Blanks part. */
  add(text: string): void {
    for (const character of text) {
      if (/\s/.test(character)) this.close();
      else {
        this.inWord = true;
        this.current += character;
      }
    }
  }

  /** Blanks are part of the word. */
  addRaw(text: string): void {
    this.inWord = true;
    this.current += text;
  }

  private close(): void {
    if (this.inWord) this.words.push(this.current);
    this.inWord = false;
    this.current = '';
  }

  end(): string[] {
    this.close();
    return this.words;
  }
}

class Lexer {
  private readonly text: string;
  private readonly variables: Variables;
  private readonly escapeToken: string;
  private readonly keepsQuotes: boolean;
  private at = 0;
  private length = 0;

  constructor(text: string, variables: Variables, escapeToken: string, keepsQuotes: boolean) {
    this.keepsQuotes = keepsQuotes;
    this.text = text;
    this.variables = variables;
    this.escapeToken = escapeToken;
  }

  private peek(): string {
    return this.text[this.at] ?? '';
  }

  private next(): string {
    return this.text[this.at++] ?? '';
  }

  /** Up to a character outside of quotes, which is taken too; to the end without one. */
  until(stop: string | undefined, words: Words, depth: number, keepsEscapes = false): string {
    if (depth > maxDepth) throw new Error('too many nested substitutions');
    let result = '';
    while (this.at < this.text.length) {
      const character = this.next();
      if (character === stop) return result;
      if (character === "'" && !this.keepsQuotes) {
        const text = this.singleQuoted();
        words.addRaw(text);
        result += text;
      } else if (character === '"' && !this.keepsQuotes) {
        const text = this.doubleQuoted(depth);
        words.addRaw(text);
        result += text;
      } else if (character === '$') {
        const text = this.bounded(this.dollar(depth));
        words.add(text);
        result += text;
      } else if (character === this.escapeToken) {
        if (this.at >= this.text.length) break;
        const escaped = this.next();
        words.addRaw(escaped);
        result += keepsEscapes && escaped !== stop ? `\\${escaped}` : escaped;
      } else {
        words.add(character);
        result += character;
      }
    }
    if (stop !== undefined) throw new Error(`unexpected end of statement while looking for matching ${stop}`);
    return result;
  }

  private bounded(text: string): string {
    this.length += text.length;
    if (this.length > maxLength) throw new Error('the result is too long');
    return text;
  }

  private singleQuoted(): string {
    const end = this.text.indexOf("'", this.at);
    if (end < 0) throw new Error('unexpected end of statement while looking for matching single-quote');
    const text = this.text.slice(this.at, end);
    this.at = end + 1;
    return text;
  }

  private doubleQuoted(depth: number): string {
    let result = '';
    while (this.at < this.text.length) {
      const character = this.next();
      if (character === '"') return result;
      if (character === '$') result += this.bounded(this.dollar(depth));
      else if (character === this.escapeToken) {
        const escaped = this.next();
        if (escaped === '') break;
        result += escaped === '"' || escaped === '$' || escaped === this.escapeToken ? escaped : character + escaped;
      } else result += character;
    }
    throw new Error('unexpected end of statement while looking for matching double-quote');
  }

  private dollar(depth: number): string {
    if (this.peek() !== '{') {
      const name = this.name();
      return name === '' ? '$' : (this.variables.get(name) ?? '');
    }
    this.next();
    const name = this.name();
    const character = this.peek();
    if (name === '') {
      if (character === '') throw new Error("syntax error: missing '}'");
      throw new Error('bad substitution');
    }
    const value = this.variables.get(name);
    this.next();
    switch (character) {
      case '}':
        return value ?? '';
      case ':':
        return this.modified(name, this.next(), value === '' ? undefined : value, depth, true);
      case '+':
      case '-':
      case '?':
        return this.modified(name, character, value, depth, false);
      case '#':
      case '%':
        return this.trimmed(character, value ?? '', depth);
      case '/':
        return this.replaced(value ?? '', depth);
      case '':
        throw new Error("syntax error: missing '}'");
      default:
        throw new Error(`unsupported modifier (${character}) in substitution`);
    }
  }

  private modified(name: string, modifier: string, value: string | undefined, depth: number, isColon: boolean): string {
    if (!['+', '-', '?'].includes(modifier)) {
      throw new Error(
        modifier === '' ? "syntax error: missing '}'" : `unsupported modifier (${isColon ? ':' : ''}${modifier}) in substitution`,
      );
    }
    const word = this.until('}', new Words(), depth + 1);
    switch (modifier) {
      case '+':
        return value === undefined ? '' : word;
      case '-':
        return value ?? word;
      default:
        if (value !== undefined) return value;
        throw new Error(`${name}: ${word === '' ? 'is not allowed to be unset' : word}`);
    }
  }

  private trimmed(character: '#' | '%', value: string, depth: number): string {
    const greedy = this.peek() === character;
    if (greedy) this.next();
    const pattern = this.until('}', new Words(), depth + 1, true);
    return character === '#' ? trimPrefix(value, pattern, greedy) : trimSuffix(value, pattern, greedy);
  }

  private replaced(value: string, depth: number): string {
    const all = this.peek() === '/';
    if (all) this.next();
    const pattern = this.until('/', new Words(), depth + 1, true);
    const replacement = this.until('}', new Words(), depth + 1);
    return replacePattern(value, pattern, replacement, all);
  }

  /** A variable's name, a parameter's number, or a special parameter. */
  private name(): string {
    const [found = ''] = /^(?:[A-Za-z_][A-Za-z0-9_]*|\d+|[@*#?$!-])/.exec(this.text.slice(this.at, this.at + 4096)) ?? [];
    // `${x#y}` has its `#` after a name; `$-` alone is a parameter that nobody sets.
    this.at += found.length;
    return found;
  }
}
