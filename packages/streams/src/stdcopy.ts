/**
 * The multiplexed stream of attach, logs and exec without a TTY: frames of an 8-byte header (stream, three zeros, big-endian length) and a
 * payload. Nothing else in the project knows this header.
 *
 * @see Engine API v1.50 ContainerAttach, "Stream format"
 */

export type StandardStream = 0 | 1 | 2;
export const stdin: StandardStream = 0;
export const stdout: StandardStream = 1;
export const stderr: StandardStream = 2;

export const headerBytes = 8;

/** Writes a frame's header at `offset`. */
export function writeHeader(target: Buffer, offset: number, stream: StandardStream, length: number): void {
  target.writeUInt32BE(stream << 24, offset);
  target.writeUInt32BE(length, offset + 4);
}

/** One frame around a chunk. */
export function frame(stream: StandardStream, chunk: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(headerBytes + chunk.length);
  writeHeader(framed, 0, stream, chunk.length);
  framed.set(chunk, headerBytes);
  return framed;
}

/** Takes frames apart, however they were cut in transit. */
export class StdcopyDemultiplexer {
  private held: Buffer = Buffer.alloc(0);

  /** The whole frames that are there after `chunk`. @throws Error on a header that is none. */
  push(chunk: Buffer): { stream: StandardStream; payload: Buffer }[] {
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    const frames: { stream: StandardStream; payload: Buffer }[] = [];
    while (this.held.length >= headerBytes) {
      const stream = this.held[0];
      if (stream !== 0 && stream !== 1 && stream !== 2) throw new Error(`unknown stream ${stream} in a frame's header`);
      const length = this.held.readUInt32BE(4);
      if (this.held.length < headerBytes + length) break;
      frames.push({ stream, payload: this.held.subarray(headerBytes, headerBytes + length) });
      this.held = this.held.subarray(headerBytes + length);
    }
    return frames;
  }

  /** Bytes of a frame that is not whole yet. */
  get pending(): number {
    return this.held.length;
  }
}
