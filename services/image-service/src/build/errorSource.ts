/** Which lines of the Dockerfile an error comes from: noted where it passes, for whoever shows it. */
import type { Location } from './dockerfile/instructions.ts';

const sources = new WeakMap<object, Location>();

/** The innermost place counts. */
export function noteLocation(error: unknown, location: Location): void {
  if (typeof error === 'object' && error !== null && !sources.has(error)) sources.set(error, location);
}

export function locationOf(error: unknown): Location | undefined {
  return typeof error === 'object' && error !== null ? sources.get(error) : undefined;
}
