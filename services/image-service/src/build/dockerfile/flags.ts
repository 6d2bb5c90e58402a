/** `--name=value` between an instruction's name and its arguments. */

export interface Flag {
  readonly name: string;
  readonly value: string | undefined;
}

/** Takes the flags off the front of an instruction's arguments. */
export function takeFlags(text: string, escapeToken: string): { flags: Flag[]; rest: string } {
  const flags: Flag[] = [];
  let at = 0;
  for (;;) {
    while (at < text.length && /\s/.test(text[at] ?? '')) at++;
    if (!text.startsWith('--', at)) return { flags, rest: text.slice(at) };
    const { word, end } = flagWord(text, at, escapeToken);
    at = end;
    if (word === '--') return { flags, rest: text.slice(at).trimStart() };
    const equals = word.indexOf('=');
    flags.push(equals < 0 ? { name: word.slice(2), value: undefined } : { name: word.slice(2, equals), value: word.slice(equals + 1) });
  }
}

/** One word, its quotes taken off. */
function flagWord(text: string, start: number, escapeToken: string): { word: string; end: number } {
  let word = '';
  let quote = '';
  let at = start;
  for (; at < text.length; at++) {
    const character = text[at] ?? '';
    if (quote === '' && /\s/.test(character)) break;
    if (character === escapeToken && at + 1 < text.length) word += text[++at] ?? '';
    else if (quote === '' && (character === '"' || character === "'")) quote = character;
    else if (character === quote) quote = '';
    else word += character;
  }
  return { word, end: at };
}

/** The flags of one instruction, each taken by its name; what is left over is unknown. */
export class Flags {
  private readonly flags: Flag[];

  constructor(flags: readonly Flag[]) {
    this.flags = [...flags];
  }

  /** @throws Error when it is said twice or has no value. */
  text(name: string): string | undefined {
    const [value, ...more] = this.texts(name);
    if (more.length > 0) throw new Error(`duplicate flag specified: ${name}`);
    return value;
  }

  texts(name: string): string[] {
    return this.take(name).map(({ value }) => {
      if (value === undefined) throw new Error(`missing a value on flag: ${name}`);
      return value;
    });
  }

  boolean(name: string): boolean | undefined {
    const [flag, ...more] = this.take(name);
    if (more.length > 0) throw new Error(`duplicate flag specified: ${name}`);
    if (flag === undefined) return undefined;
    const value = (flag.value ?? 'true').toLowerCase();
    if (value !== 'true' && value !== 'false') throw new Error(`expecting boolean value for flag ${name}, not: ${flag.value}`);
    return value === 'true';
  }

  /** @throws Error when a flag is left that nobody has taken. */
  end(): void {
    const [unknown] = this.flags;
    if (unknown !== undefined) throw new Error(`unknown flag: --${unknown.name}`);
  }

  private take(name: string): Flag[] {
    const taken = this.flags.filter((flag) => flag.name === name);
    this.flags.splice(0, this.flags.length, ...this.flags.filter((flag) => flag.name !== name));
    return taken;
  }
}
