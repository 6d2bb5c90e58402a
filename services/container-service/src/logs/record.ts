/**
 * The record format of a container's log: conmon's k8s-file, written with TZ=UTC so that every field has a fixed place.
 *
 *     2026-01-02T03:04:05.123456789+00:00 stdout F text…\n
 *     0                                   36     43 45
 *
 * `P` marks a piece of a line whose end was not seen yet (no newline of its own), `F` a piece that ends a line. A body holds
 * no newline, so a record ends at the first one.
 */

/** Bytes of the time without its zone: what is compared, as text, to tell earlier from later. */
export const timeLength = 29;
/** Offset of the letter that tells stdout (`o`) from stderr (`e`). */
export const streamLetter = 39;
export const flagOffset = 43;
export const bodyOffset = 45;

export const newline = 0x0a;
const partialFlag = 0x50;
const stderrLetter = 0x65;

/** Whether the record at `start` is a piece of a line that goes on. */
export function isPartial(buffer: Buffer, start: number): boolean {
  return buffer[start + flagOffset] === partialFlag;
}

/** 1 for stdout, 2 for stderr: the numbers of the stdcopy protocol. */
export function streamOf(buffer: Buffer, start: number): 1 | 2 {
  return buffer[start + streamLetter] === stderrLetter ? 2 : 1;
}

/** A time in nanoseconds since the epoch in the log's own form, 29 characters, so that it compares as text. */
export function formatTime(nanoseconds: bigint): string {
  const seconds = nanoseconds / 1_000_000_000n;
  const fraction = nanoseconds % 1_000_000_000n;
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, 19)}.${fraction.toString().padStart(9, '0')}`;
}
