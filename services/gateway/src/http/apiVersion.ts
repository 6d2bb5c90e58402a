/** Versions of the Engine API: the one a request was made for, and how they compare. */
import type { IncomingMessage } from 'node:http';
import { apiVersion } from '@flotilla/service-kit';

const requested = new WeakMap<IncomingMessage, string>();

export function setVersion(request: IncomingMessage, version: string): void {
  requested.set(request, version);
}

/** The version a request was made for; without a prefix the newest. */
export function versionOf(request: IncomingMessage): string {
  return requested.get(request) ?? apiVersion;
}

/** Negative, 0 or positive, as numbers between dots compare. */
export function compareVersions(a: string, b: string): number {
  const left = a.split('.');
  const right = b.split('.');
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (Number(left[i]) || 0) - (Number(right[i]) || 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Whether a request was made for a version older than `version`. */
export function olderThan(request: IncomingMessage, version: string): boolean {
  return compareVersions(versionOf(request), version) < 0;
}
