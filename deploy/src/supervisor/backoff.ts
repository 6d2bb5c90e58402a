/** How long a dead process waits for its next start. The first one comes at once: a killed service is to be back before its clients give up. */

const firstMs = 100;
const mostMs = 5_000;
/** Whoever lived this long has started well, and its failures are forgotten. */
export const provenAfterMs = 10_000;

/** @param failures - starts in a row that ended early. */
export function restartDelayMs(failures: number): number {
  return failures <= 1 ? 0 : Math.min(firstMs * 2 ** (failures - 2), mostMs);
}
