/** A stream as it came, decompressed if it is: gzip and zstd here, xz and bzip2 by their programs. */
import { spawn } from 'node:child_process';
import { Readable, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { InvalidParameter } from '@flotilla/errors';
import { sniffCompression } from '@flotilla/oci';

export type ArchiveCompression = ReturnType<typeof sniffCompression>;

const chunkSize = 256 * 1024;

/** Reads the first bytes of `source` to know its compression; `plain` is the whole stream, decompressed. */
export async function decompressed(
  source: AsyncIterable<Buffer>,
): Promise<{ plain: AsyncIterable<Buffer>; compression: ArchiveCompression }> {
  const iterator = source[Symbol.asyncIterator]();
  const head: Buffer[] = [];
  let size = 0;
  while (size < 4) {
    const next = await iterator.next();
    if (next.done === true) break;
    head.push(next.value);
    size += next.value.length;
  }
  const compression = sniffCompression(Buffer.concat(head));
  const whole = chain(head, iterator);
  switch (compression) {
    case 'none':
      return { plain: whole, compression };
    case 'gzip':
      return { plain: through(whole, createGunzip({ chunkSize })), compression };
    case 'zstd':
      return { plain: through(whole, createZstdDecompress({ chunkSize })), compression };
    case 'xz':
    case 'bzip2':
      return { plain: throughProgram(whole, compression), compression };
  }
}

async function* chain(head: readonly Buffer[], rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* head;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

function through(source: AsyncIterable<Buffer>, decoder: Transform): AsyncIterable<Buffer> {
  const input = Readable.from(source, { objectMode: false, highWaterMark: chunkSize });
  input.on('error', (error) => decoder.destroy(error));
  decoder.on('close', () => input.destroy());
  return input.pipe(decoder);
}

async function* throughProgram(source: AsyncIterable<Buffer>, program: 'xz' | 'bzip2'): AsyncGenerator<Buffer> {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', resolve);
    child.on('error', () => resolve(null));
  });
  const input = Readable.from(source, { objectMode: false });
  // A program that ends early closes its input: its exit code tells why.
  child.stdin.on('error', () => input.destroy());
  input.on('error', () => child.kill());
  input.pipe(child.stdin);
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    if ((await ended) !== 0) throw new InvalidParameter(`archive cannot be decompressed with ${program}`);
  } finally {
    child.kill();
    input.destroy();
  }
}
