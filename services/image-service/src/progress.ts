/** Progress lines as dockerd writes them, and as the CLI's bars read them. */
import type { ProgressMessage } from '@flotilla/engine-api';

/** Takes lines on their way to a client. */
export type ProgressSink = (line: ProgressMessage) => void;

/** A line without a bar. */
export function message(status: string, id?: string): ProgressMessage {
  return id === undefined ? { status } : { status, id };
}

/** A line that moves `id`'s bar. */
export function bar(status: string, id: string, current: number, total: number): ProgressMessage {
  if (current <= 0 && total <= 0) return { status, progressDetail: {}, id };
  return { status, progressDetail: { current, total }, progress: barText(current, total), id };
}

/** A step of `id` that has no bar. */
export function step(status: string, id: string): ProgressMessage {
  return { status, progressDetail: {}, id };
}

/** The line that ends a stream which failed after its first line. */
export function failure(text: string): ProgressMessage {
  return { errorDetail: { message: text }, error: text };
}

/** `[=====>     ]  1.2MB/3.4MB`: what clients older than the bars print. */
function barText(current: number, total: number): string {
  if (total <= 0) return humanSize(current).padStart(8);
  const filled = Math.min(50, Math.trunc(Math.trunc((current / total) * 100) / 2));
  const box = `[${'='.repeat(filled)}>${' '.repeat(50 - filled)}] `;
  return current > total ? box + humanSize(current).padStart(8) : `${box}${humanSize(current).padStart(8)}/${humanSize(total)}`;
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Decimal, four significant digits: `1.234MB`. */
export function humanSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
