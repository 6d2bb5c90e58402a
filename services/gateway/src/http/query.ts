/** Query parameters, read the way dockerd reads them. */
import type { IncomingMessage } from 'node:http';
import { goBoolean, notGoBoolean } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

/** Parsed once a request. */
const parsed = new WeakMap<IncomingMessage, URLSearchParams>();

export function query(request: IncomingMessage): URLSearchParams {
  let parameters = parsed.get(request);
  if (parameters === undefined) {
    const url = request.url ?? '';
    const mark = url.indexOf('?');
    parameters = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1));
    parsed.set(request, parameters);
  }
  return parameters;
}

export function text(request: IncomingMessage, name: string): string {
  return query(request).get(name) ?? '';
}

/** True for anything but nothing, 0, no, false and none, without regard to case. */
export function boolean(request: IncomingMessage, name: string, whenAbsent = false): boolean {
  const value = query(request).get(name);
  if (value === null) return whenAbsent;
  return !['', '0', 'no', 'false', 'none'].includes(value.trim().toLowerCase());
}

/** A decimal integer. @throws InvalidParameter with Go's words. */
export function integer(request: IncomingMessage, name: string): number | undefined {
  const value = query(request).get(name);
  if (value === null || value === '') return undefined;
  return parseInteger(value);
}

export function parseInteger(value: string): number {
  if (!/^[+-]?[0-9]+$/.test(value)) throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(value)}: value out of range`);
  return number;
}

/** A number of terminal rows or columns. @throws InvalidParameter with dockerd's words. */
export function terminalSize(request: IncomingMessage, name: string, what: 'height' | 'width'): number {
  const value = text(request, name);
  const refuse = (reason: string): never => {
    throw new InvalidParameter(`invalid resize ${what} ${JSON.stringify(value)}: ${reason}`);
  };
  if (/^-[0-9]+$/.test(value)) refuse('value out of range');
  if (!/^[0-9]+$/.test(value)) refuse('invalid syntax');
  const number = Number(value);
  return number > 0xffffffff ? refuse('value out of range') : number;
}

/** Go's strconv.ParseBool; false when absent. @throws InvalidParameter for anything else. */
export function strictBoolean(request: IncomingMessage, name: string): boolean {
  const value = text(request, name);
  const parsed = value === '' ? false : goBoolean(value);
  if (parsed === undefined) throw new InvalidParameter(`invalid value for ${name}: ${value}: ${notGoBoolean(value)}`);
  return parsed;
}
