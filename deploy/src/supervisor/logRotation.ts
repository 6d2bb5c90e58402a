/**
 * Keeps the logs of a stack bounded. The processes hold their files open for appending and outlive the supervisor, so a file is copied and then emptied: they
 * go on writing at its new end. A line written between the two steps (microseconds) may be lost; containers' logs are not kept this way.
 */
import { copyFileSync, existsSync, renameSync, statSync, truncateSync } from 'node:fs';

export interface RotationLimits {
  readonly maxBytes: number;
  /** Older files kept: .1 is the newest. */
  readonly keep: number;
}

export const defaultRotation: RotationLimits = { maxBytes: 10 * 1024 * 1024, keep: 3 };

/** Rotates `path` when it has grown past its bound; answers whether it did. */
export function rotateLog(path: string, limits: RotationLimits = defaultRotation): boolean {
  if (!existsSync(path) || statSync(path).size < limits.maxBytes) return false;
  for (let number = limits.keep - 1; number >= 1; number--) {
    if (existsSync(`${path}.${number}`)) renameSync(`${path}.${number}`, `${path}.${number + 1}`);
  }
  copyFileSync(path, `${path}.1`);
  truncateSync(path, 0);
  return true;
}
