/** Identifiers as Docker's objects have them, and times as its documents write them. */
import { randomBytes } from 'node:crypto';

/** 64 hexadecimal digits. An id whose first twelve are all decimal could be taken for a number: Docker makes none. */
export function randomId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex');
    if (!/^\d{12}/.test(id)) return id;
  }
}

export function shortId(id: string): string {
  return id.slice(0, 12);
}

/** Now, in nanoseconds since the epoch. */
export function nowNano(): bigint {
  return BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n);
}

/** RFC 3339 with nanoseconds. */
export function timestamp(nano = nowNano()): string {
  const seconds = new Date(Number(nano / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(nano % 1_000_000_000n).toString().padStart(9, '0')}Z`;
}
