/** The header Range, one range of bytes. @see RFC 9110 section 14 */
import { DistributionError } from '../distributionError.ts';

export interface ByteRange {
  readonly start: number;
  /** exclusive */
  readonly end: number;
}

/**
 * Which bytes are wanted; undefined for all of them (no header, or several ranges, which a server may answer whole).
 *
 * @throws DistributionError 416, also for what is no range at all, as Go's http.ServeContent does.
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | undefined {
  if (header === undefined || (header.startsWith('bytes=') && header.includes(','))) return undefined;
  const match = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/.exec(header);
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) throw unsatisfiable(sizeBytes);
  if (first === '') {
    const length = Math.min(Number(last), sizeBytes);
    if (length === 0) throw unsatisfiable(sizeBytes);
    return { start: sizeBytes - length, end: sizeBytes };
  }
  const start = Number(first);
  const end = last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  if (start >= sizeBytes || (last !== '' && Number(last) < start)) throw unsatisfiable(sizeBytes);
  return { start, end };
}

function unsatisfiable(sizeBytes: number): DistributionError {
  return new DistributionError('RANGE_INVALID', 'invalid range', { headers: { 'content-range': `bytes */${sizeBytes}` } });
}
