/** Archives that ADD unpacks: tar, plain or compressed. */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { InvalidParameter } from '@flotilla/errors';
import { sniffCompression } from '@flotilla/oci';
import { blockBytes, TarError } from '@flotilla/tar';
import { decompressed } from '../../archive/decompress.ts';
import { isLayerFault, TreeBuilder } from '../../layers/treeBuilder.ts';
import { roomIn } from '../../room.ts';
import { checksumFits } from '../../tar/header.ts';
import { TarParser } from '../../tar/parser.ts';

const maxEntries = 2_000_000;

/** Whether a file begins as a tar does, once it is decompressed. */
export async function isArchive(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const head = Buffer.alloc(blockBytes);
    const { bytesRead } = await file.read(head, 0, blockBytes, 0);
    if (sniffCompression(head.subarray(0, bytesRead)) === 'none') return isHeader(head.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
  const source = createReadStream(path);
  try {
    const { plain } = await decompressed(source);
    let head: Buffer = Buffer.alloc(0);
    for await (const chunk of plain) {
      head = Buffer.concat([head, chunk]);
      if (head.length >= blockBytes) break;
    }
    return isHeader(head);
  } catch {
    return false;
  } finally {
    source.destroy();
  }
}

function isHeader(bytes: Buffer): boolean {
  try {
    return (
      bytes.length >= blockBytes && bytes.subarray(0, blockBytes).some((byte) => byte !== 0) && checksumFits(bytes.subarray(0, blockBytes))
    );
  } catch (error) {
    if (error instanceof TarError) return false;
    throw error;
  }
}

/** Unpacks a file into an empty directory. @throws InvalidParameter */
export async function unpackArchive(path: string, directory: string, signal: AbortSignal): Promise<void> {
  const source = createReadStream(path, { highWaterMark: 256 * 1024 });
  try {
    await unpack(source, directory, signal);
  } catch (error) {
    if (error instanceof InvalidParameter) throw new InvalidParameter(`ADD failed: ${error.message}`, { cause: error });
    throw error;
  } finally {
    source.destroy();
  }
}

/**
 * Unpacks a tar, compressed or not, into an empty directory; nothing in it leads outside of that.
 *
 * @throws InvalidParameter in dockerd's words for what is no tar, or a hostile one.
 */
export async function unpack(source: AsyncIterable<Buffer>, directory: string, signal: AbortSignal): Promise<void> {
  const limits = {
    maxBytes: roomIn(directory),
    maxEntries,
    tooLarge: 'no space left on device: it unpacks to more than there is room for',
  };
  const tree = new TreeBuilder({ root: directory, limits, whiteouts: false });
  try {
    const parser = new TarParser(tree);
    const { plain } = await decompressed(source);
    for await (const chunk of plain) {
      signal.throwIfAborted();
      parser.push(chunk);
    }
    parser.end();
    tree.finish();
  } catch (error) {
    tree.abandon();
    signal.throwIfAborted();
    if (isArchiveFault(error)) throw new InvalidParameter(`Error processing tar file: ${(error as Error).message}`, { cause: error });
    throw error;
  }
}

/** What is wrong with an archive, not with this machine. */
function isArchiveFault(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  const isDecoder = typeof code === 'string' && /^(Z_|ZSTD_|ERR_ZSTD)/.test(code);
  return isLayerFault(error) || error instanceof TarError || isDecoder;
}
