/** Times as Docker's documents write them. */

let lastNano = 0n;

/** Now, in nanoseconds since the epoch; each call's is later than the one before, so that what was made first sorts first. */
export function nowNano(): bigint {
  const now = BigInt(Date.now()) * 1_000_000n;
  lastNano = now > lastNano ? now : lastNano + 1n;
  return lastNano;
}

/** RFC 3339 with nanoseconds. */
export function timestamp(nano = nowNano()): string {
  const seconds = new Date(Number(nano / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(nano % 1_000_000_000n).toString().padStart(9, '0')}Z`;
}
