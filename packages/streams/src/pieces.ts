/**
 * A stream in pieces, so that its holder can tell an end from a death, and go on at another instance where it stood:
 *
 *     kind (1 byte) · length of the cursor (1 byte) · number (4 bytes, big-endian) · cursor · payload
 *
 * From the server: `output` carries as many bytes as its number says, and the cursor tells where the stream stands behind them; `taken` says how many bytes of
 * input have reached their goal since the last one; `end` is the server's last word. A stream that stops without it was cut. To the server: raw bytes.
 */
import type { Writable } from 'node:stream';
import { writeAll } from './join.ts';

export const pieceKind = { output: 1, taken: 2, end: 3 } as const;
export type PieceKind = (typeof pieceKind)[keyof typeof pieceKind];

const headerBytes = 6;
const nothing = Buffer.alloc(0);

export interface Piece {
  readonly kind: PieceKind;
  readonly cursor: string;
  /** bytes of output, or of input taken */
  readonly length: number;
  /** the output, as it came in: all of it */
  readonly payload: readonly Buffer[];
}

function header(kind: PieceKind, number: number, cursor = ''): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + Buffer.byteLength(cursor));
  bytes[0] = kind;
  bytes[1] = bytes.length - headerBytes;
  bytes.writeUInt32BE(number, 2);
  bytes.write(cursor, headerBytes);
  return bytes;
}

/** Sends output; without bytes it only says where the stream stands. Waits until the peer can take more. */
export function writeOutput(stream: Writable, payload: Buffer, cursor = ''): Promise<void> {
  const head = header(pieceKind.output, payload.length, cursor);
  if (payload.length === 0) return writeAll(stream, head);
  stream.cork();
  stream.write(head);
  const written = writeAll(stream, payload);
  stream.uncork();
  return written;
}

/** Says that input has reached its goal: after a cut it is not sent again. `told` runs when the holder cannot miss it any more. */
export function writeTaken(stream: Writable, bytes: number, told?: () => void): void {
  if (!stream.writable) return;
  stream.write(header(pieceKind.taken, bytes), (error) => {
    if (!error) told?.();
  });
}

export function writeEnd(stream: Writable): void {
  if (stream.writable) stream.write(header(pieceKind.end, 0));
}

/** Finds the pieces in what arrives. Output is given only when all of its piece is here: what a cut left incomplete is sent again. */
export class PieceParser {
  private pending: Buffer = nothing;
  private open: { cursor: string; length: number; payload: Buffer[]; missing: number } | undefined;

  /** @throws Error when these are no pieces. */
  push(chunk: Buffer): Piece[] {
    const found: Piece[] = [];
    let rest = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    this.pending = nothing;
    for (;;) {
      if (this.open !== undefined) {
        rest = this.fill(this.open, rest);
        if (this.open.missing > 0) return found;
        found.push({ kind: pieceKind.output, ...this.open });
        this.open = undefined;
      }
      const cursorEnd = headerBytes + (rest[1] ?? 0);
      if (rest.length < headerBytes || rest.length < cursorEnd) {
        this.pending = Buffer.from(rest);
        return found;
      }
      const kind = rest[0] as PieceKind;
      const length = rest.readUInt32BE(2);
      const cursor = rest.toString('utf8', headerBytes, cursorEnd);
      rest = rest.subarray(cursorEnd);
      if (kind === pieceKind.output) this.open = { cursor, length, payload: [], missing: length };
      else if (kind === pieceKind.taken || kind === pieceKind.end) found.push({ kind, cursor, length, payload: [] });
      else throw new Error(`a piece of kind ${kind} is unknown`);
    }
  }

  private fill(open: { payload: Buffer[]; missing: number }, bytes: Buffer): Buffer {
    const part = bytes.subarray(0, open.missing);
    if (part.length > 0) open.payload.push(part);
    open.missing -= part.length;
    return bytes.subarray(part.length);
  }
}
