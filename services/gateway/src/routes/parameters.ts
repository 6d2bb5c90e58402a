/** Parts of the path. */
import type { Request } from 'express';

/** The object's name in the path: anything up to what follows it, slashes included. */
export function name(request: Request): string {
  const value: unknown = request.params.name;
  return typeof value === 'string' ? value : '';
}
