/** Archives may come compressed; which way is told by their first bytes, as dockerd tells it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { InvalidParameter } from '@flotilla/errors';

const magics: readonly (readonly [name: 'gzip' | 'bzip2' | 'xz' | 'zstd', magic: Buffer])[] = [
  ['gzip', Buffer.from([0x1f, 0x8b, 0x08])],
  ['bzip2', Buffer.from('BZh')],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ['zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
];
const longestMagic = 6;

/** The stream as it was before it was compressed. @throws InvalidParameter while reading, when it is damaged. */
export async function* decompressed(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const iterator = stream[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  while (head.length < longestMagic) {
    const next = await iterator.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  const whole = rejoined(head, iterator);
  const kind = magics.find(([, magic]) => head.subarray(0, magic.length).equals(magic))?.[0];
  if (kind === undefined) yield* whole;
  else if (kind === 'gzip') yield* through(whole, createGunzip());
  else if (kind === 'zstd') yield* through(whole, createZstdDecompress());
  else yield* byProgram(kind, whole);
}

async function* rejoined(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

async function* through(source: AsyncIterable<Buffer>, transform: NodeJS.ReadWriteStream): AsyncGenerator<Buffer> {
  const output = new PassThrough();
  const done = pipeline(Readable.from(source, { objectMode: false }), transform, output);
  done.catch(() => undefined);
  try {
    for await (const chunk of output as AsyncIterable<Buffer>) yield chunk;
    await done;
  } catch (error) {
    throw new InvalidParameter(`the archive is damaged: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

async function* byProgram(name: 'bzip2' | 'xz', source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const child = spawn(name, ['--decompress', '--stdout'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const exit = once(child, 'close') as Promise<[number | null]>;
  exit.catch(() => undefined);
  const feeding = pipeline(Readable.from(source, { objectMode: false }), child.stdin);
  feeding.catch(() => undefined);
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const [code] = await exit;
    if (code !== 0) throw new InvalidParameter(`the archive is damaged: ${name} gave up`);
  } finally {
    child.kill();
  }
}
