/**
 * Decoding of JSON documents that clients send, with the habits of Go's encoding/json, which every Docker client was written against:
 * keys match without regard to case, unknown keys are ignored, `null` leaves a field unset, and a wrong type is refused with
 * Go's words. What comes out holds only the known keys, in their canonical spelling, so that nothing inside needs a cast.
 */

/** A document cannot be what it should be. The message is Go's; the edge puts `invalid JSON: ` before it and answers 400. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
}

/** Where in the document we are, for messages. */
export interface Place {
  /** Go's name of the struct that holds the field; empty at the top. */
  readonly struct: string;
  /** the path of field names from the top. */
  readonly path: string;
}

/** How a JSON value becomes a `T`; `undefined` means: as if it were absent. */
export interface Shape<T> {
  /** Go's name of the type, as it stands in messages. */
  readonly goType: string;
  decode(value: unknown, place: Place): T | undefined;
}

/** Go's word for the kind of a JSON value. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  return typeof value;
}

function refuse(value: unknown, place: Place, goType: string, detail = ''): never {
  const where = place.struct === '' ? 'Go value' : `Go struct field ${place.struct}.${place.path}`;
  throw new DecodeError(`json: cannot unmarshal ${kindOf(value)}${detail} into ${where} of type ${goType}`);
}

export const string: Shape<string> = {
  goType: 'string',
  decode(value, place) {
    return typeof value === 'string' ? value : refuse(value, place, 'string');
  },
};

export const boolean: Shape<boolean> = {
  goType: 'bool',
  decode(value, place) {
    return typeof value === 'boolean' ? value : refuse(value, place, 'bool');
  },
};

function integer(goType: string, least: number, most: number): Shape<number> {
  return {
    goType,
    decode(value, place) {
      if (typeof value !== 'number') return refuse(value, place, goType);
      if (!Number.isInteger(value) || value < least || value > most) return refuse(value, place, goType, ` ${value}`);
      return value;
    },
  };
}

/** The documents' numbers are held as JavaScript numbers: beyond 2^53 a byte count or a duration means "no limit" to every reader. */
export const int64: Shape<number> = integer('int64', -(2 ** 63), 2 ** 63);
export const int: Shape<number> = integer('int', -(2 ** 63), 2 ** 63);
export const uint64: Shape<number> = integer('uint64', 0, 2 ** 64);
export const uint: Shape<number> = integer('uint', 0, 2 ** 64);
export const uint16: Shape<number> = integer('uint16', 0, 2 ** 16 - 1);
export const uint32: Shape<number> = integer('uint32', 0, 2 ** 32 - 1);
/** A duration in nanoseconds. */
export const duration: Shape<number> = { ...int64, goType: 'time.Duration' };

/** An empty JSON object, as in `ExposedPorts: {"80/tcp": {}}`; members are ignored. */
export type Empty = Record<string, never>;
export const empty: Shape<Empty> = {
  goType: 'struct {}',
  decode(value, place) {
    if (typeof value !== 'object' || Array.isArray(value)) return refuse(value, place, 'struct {}');
    return {};
  },
};

export function list<T>(item: Shape<T>): Shape<T[]> {
  const goType = `[]${item.goType}`;
  return {
    goType,
    decode(value, place) {
      if (!Array.isArray(value)) return refuse(value, place, goType);
      const items: T[] = [];
      for (const each of value) {
        const decoded = each === null ? zeroOf(item, place) : item.decode(each, place);
        if (decoded !== undefined) items.push(decoded);
      }
      return items;
    },
  };
}

/** Go's zero value for a `null` in a list: what decoding an absent value of that type would leave. */
function zeroOf<T>(item: Shape<T>, place: Place): T | undefined {
  for (const zero of ['', 0, false, {}]) {
    try {
      return item.decode(zero, place);
    } catch {}
  }
  return undefined;
}

/** A map with string keys. A `null` value becomes `whenNull`, or is left out without one. */
export function map<T>(value: Shape<T>, whenNull?: () => T): Shape<Record<string, T>> {
  const goType = `map[string]${value.goType}`;
  return {
    goType,
    decode(document, place) {
      if (typeof document !== 'object' || document === null || Array.isArray(document)) return refuse(document, place, goType);
      const result: Record<string, T> = {};
      for (const [key, each] of Object.entries(document)) {
        const decoded = each === null ? whenNull?.() : value.decode(each, { ...place, path: `${place.path}.${key}` });
        if (decoded !== undefined) setOwn(result, key, decoded);
      }
      return result;
    },
  };
}

/** A list of strings that may also be written as one string: Cmd and Entrypoint. What is neither is refused as if a string were wanted. */
export const stringOrList: Shape<string[]> = {
  goType: 'strslice.StrSlice',
  decode(value, place) {
    if (typeof value === 'string') return [value];
    if (!Array.isArray(value) || value.some((each) => typeof each !== 'string' && each !== null)) return refuse(value, place, 'string');
    return list(string).decode(value, place);
  },
};

/** An object whose fields do not matter. */
export const document: Shape<object> = {
  goType: 'map[string]interface {}',
  decode(value, place) {
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : refuse(value, place, 'map[string]interface {}');
  },
};

/** Sets a key that may be `__proto__`, which a plain assignment would lose. */
function setOwn<T>(target: Record<string, T>, key: string, value: T): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/** One shape for each field of T, whether optional or not. */
export type Fields<T> = { readonly [K in keyof Required<T>]: Shape<NonNullable<T[K]>> };

/**
 * An object with known fields.
 *
 * @param goType - the type's name in Go with its package; messages about its fields show it without.
 * @param fields - a shape for every field of T.
 */
export function struct<T extends object>(goType: string, fields: Fields<T>): Shape<T> {
  const shapes = new Map<string, Shape<unknown>>(Object.entries(fields));
  const folded = new Map([...shapes.keys()].map((name) => [name.toLowerCase(), name]));
  const structName = goType.slice(goType.lastIndexOf('.') + 1);
  return {
    goType,
    decode(value, place) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(value, place, goType);
      const result: Record<string, unknown> = {};
      for (const [key, each] of Object.entries(value)) {
        const name = shapes.has(key) ? key : folded.get(key.toLowerCase());
        const shape = name === undefined ? undefined : shapes.get(name);
        if (name === undefined || shape === undefined || each === null) continue;
        const decoded = shape.decode(each, { struct: structName, path: place.path === '' ? name : `${place.path}.${name}` });
        if (decoded !== undefined) result[name] = decoded;
      }
      // Every key was decoded by the shape that Fields<T> demands for it; the compiler cannot follow that through Object.entries.
      return result as T;
    },
  };
}

/**
 * Reads one JSON document.
 *
 * @returns undefined for the document `null`, which leaves Go's value as it was.
 * @throws DecodeError with Go's words for broken JSON and for wrong types.
 */
export function decodeDocument<T>(shape: Shape<T>, text: string): T | undefined {
  const document = parseJson(text);
  return document === null ? undefined : shape.decode(document, { struct: '', path: '' });
}

/** JSON.parse, with Go's words when it fails. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DecodeError(goSyntaxError(text), { cause: error });
  }
}

function quoteCharacter(character: string): string {
  if (character === "'") return `'\\''`;
  if (character === '"') return `'"'`;
  const code = character.codePointAt(0) ?? 0;
  const names: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\', '\0': '\\x00' };
  return `'${names[character] ?? (code < 0x20 ? `\\x${code.toString(16).padStart(2, '0')}` : character)}'`;
}

/** What Go's scanner says of text that is not JSON: the first character it cannot take, and what it was doing. */
function goSyntaxError(text: string): string {
  let at = 0;
  const invalid = (context: string): never => {
    const character = text[at];
    throw new DecodeError(character === undefined ? 'unexpected EOF' : `invalid character ${quoteCharacter(character)} ${context}`);
  };
  const space = (): void => {
    while (' \t\r\n'.includes(text[at] ?? 'x')) at++;
  };
  const literal = (word: string): void => {
    for (let i = 0; i < word.length; i++, at++) {
      if (text[at] !== word[i])
        invalid(i === 0 ? 'looking for beginning of value' : `in literal ${word} (expecting ${quoteCharacter(word[i] ?? '')})`);
    }
  };
  const quoted = (): void => {
    at++;
    for (;;) {
      const character = text[at];
      if (character === undefined || character < ' ') invalid('in string literal');
      else if (character === '"') {
        at++;
        return;
      } else if (character === '\\') {
        at++;
        if (text[at] === 'u') {
          at++;
          for (let i = 0; i < 4; i++, at++) if (!/[0-9a-fA-F]/.test(text[at] ?? '')) invalid('in \\u hexadecimal character escape');
        } else if (text[at] !== undefined && 'bfnrt\\/"'.includes(text[at] ?? '')) at++;
        else invalid('in string escape code');
      } else at++;
    }
  };
  const digits = (): void => {
    while (/[0-9]/.test(text[at] ?? '')) at++;
  };
  const number = (): void => {
    if (text[at] === '-') {
      at++;
      if (!/[0-9]/.test(text[at] ?? '')) invalid('in numeric literal');
    }
    if (text[at] === '0') at++;
    else digits();
    if (text[at] === '.') {
      at++;
      if (!/[0-9]/.test(text[at] ?? '')) invalid('after decimal point in numeric literal');
      digits();
    }
    if (text[at] === 'e' || text[at] === 'E') {
      at++;
      if (text[at] === '+' || text[at] === '-') at++;
      if (!/[0-9]/.test(text[at] ?? '')) invalid('in exponent of numeric literal');
      digits();
    }
  };
  const value = (depth: number): void => {
    if (depth > 10_000) throw new DecodeError('exceeded max depth');
    space();
    const character = text[at] ?? '';
    if (character === '"') quoted();
    else if (character === '{') {
      at++;
      space();
      if (text[at] === '}') {
        at++;
        return;
      }
      for (;;) {
        space();
        if (text[at] !== '"') invalid('looking for beginning of object key string');
        quoted();
        space();
        if (text[at] !== ':') invalid('after object key');
        at++;
        value(depth + 1);
        space();
        if (text[at] === '}') break;
        if (text[at] !== ',') invalid('after object key:value pair');
        at++;
      }
      at++;
    } else if (character === '[') {
      at++;
      space();
      if (text[at] === ']') {
        at++;
        return;
      }
      for (;;) {
        value(depth + 1);
        space();
        if (text[at] === ']') break;
        if (text[at] !== ',') invalid('after array element');
        at++;
      }
      at++;
    } else if (character === 't') literal('true');
    else if (character === 'f') literal('false');
    else if (character === 'n') literal('null');
    else if (character === '-' || (character >= '0' && character <= '9')) number();
    else invalid('looking for beginning of value');
  };
  try {
    space();
    if (at === text.length) return 'EOF';
    value(0);
    space();
    return at < text.length ? 'unexpected content after JSON' : 'invalid JSON';
  } catch (error) {
    // Depth beyond this machine's stack is also more than anybody means.
    return error instanceof DecodeError ? error.message : 'exceeded max depth';
  }
}
