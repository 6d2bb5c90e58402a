/** Reading JSON that strangers wrote: each accessor checks one field and names it in the error. */
import { InvalidContent } from './errors.ts';

export type JsonObject = { readonly [key: string]: unknown };

/** Parses a JSON object. @throws InvalidContent when it is none or longer than `maxBytes`. */
export function parseObject(what: string, bytes: Uint8Array, maxBytes: number): JsonObject {
  if (bytes.byteLength > maxBytes) throw new InvalidContent(`${what} of ${bytes.byteLength} bytes passes the limit of ${maxBytes}`);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new InvalidContent(`${what} is not JSON`, { cause });
  }
  return asObject(what, document);
}

export function asObject(what: string, value: unknown): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new InvalidContent(`${what} is not an object`);
  return value as JsonObject;
}

export function optionalString(what: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new InvalidContent(`${what} is not a string`);
  return value;
}

export function requiredString(what: string, value: unknown): string {
  const text = optionalString(what, value);
  if (text === undefined || text === '') throw new InvalidContent(`${what} is missing`);
  return text;
}

export function optionalArray(what: string, value: unknown, maxLength: number): readonly unknown[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw new InvalidContent(`${what} is not an array`);
  if (value.length > maxLength) throw new InvalidContent(`${what} has ${value.length} entries, more than ${maxLength}`);
  return value;
}

export function optionalStrings(what: string, value: unknown, maxLength: number): readonly string[] | undefined {
  const array = optionalArray(what, value, maxLength);
  for (const entry of array ?? []) if (typeof entry !== 'string') throw new InvalidContent(`${what} holds something that is not a string`);
  return array as readonly string[] | undefined;
}

export function optionalStringMap(what: string, value: unknown): Readonly<Record<string, string>> | undefined {
  if (value === undefined || value === null) return undefined;
  const object = asObject(what, value);
  for (const [key, entry] of Object.entries(object)) {
    if (typeof entry !== 'string') throw new InvalidContent(`${what}.${key} is not a string`);
  }
  return object as Readonly<Record<string, string>>;
}

export function optionalInteger(what: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw new InvalidContent(`${what} is not an integer`);
  return value;
}

export function optionalBoolean(what: string, value: unknown): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'boolean') throw new InvalidContent(`${what} is not a boolean`);
  return value;
}
