/** One layer on its way from bytes to a directory: decompressed, hashed (diffID) and extracted as the bytes arrive, with back-pressure. */
import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type Digest, DigestVerifier, sniffCompression } from '@flotilla/oci';
import { roomIn } from '../room.ts';
import { TarParser } from '../tar/parser.ts';
import { LayerEntryError, TreeBuilder } from './treeBuilder.ts';

export interface UnpackJob {
  /** An existing empty directory. */
  readonly root: string;
  /** What the uncompressed tar must hash to; absent: whatever it does. */
  readonly diffId?: Digest;
  /** The blob is that tar and has been verified: it is not hashed again. */
  readonly isVerified?: boolean;
  /** Bytes that a layer may unpack to, whatever space is left. */
  readonly maxBytes: number;
}

export interface UnpackedLayer {
  readonly diffId: Digest;
  /** Bytes of its files. */
  readonly sizeBytes: number;
}

const maxEntries = 2_000_000;
const chunkSize = 256 * 1024;

export class LayerUnpacker {
  private readonly verifier: DigestVerifier | undefined;
  private readonly knownDiffId: Digest | undefined;
  private plainBytes = 0;
  private readonly tree: TreeBuilder;
  private readonly parser: TarParser;
  private readonly maxBytes: number;
  /** What is said of a layer that is larger. */
  private readonly tooLarge: string;
  private decoder: Transform | undefined;
  private sniffed = false;
  private head: Buffer[] = [];
  private headBytes = 0;
  private failure: unknown;
  private ended = false;
  private wake: () => void = () => undefined;

  /** @param comingBytes - of the blob, that will be written to the same disk meanwhile. @throws LayerEntryError when there is no room for them. */
  constructor(job: UnpackJob, comingBytes: number) {
    const room = roomIn(job.root) - comingBytes;
    if (room < 0) throw new LayerEntryError(`no space left on device: there is no room for the ${comingBytes} bytes of the layer's blob`);
    this.maxBytes = Math.min(job.maxBytes, room);
    this.tooLarge =
      room < job.maxBytes
        ? `no space left on device: layer unpacks to more than the ${this.maxBytes} bytes there is room for`
        : `layer unpacks to more than the ${this.maxBytes} bytes that are allowed`;
    this.knownDiffId = job.isVerified === true ? job.diffId : undefined;
    this.verifier = this.knownDiffId === undefined ? new DigestVerifier(job.diffId) : undefined;
    this.tree = new TreeBuilder({
      root: job.root,
      limits: { maxBytes: this.maxBytes, maxEntries, tooLarge: this.tooLarge },
      whiteouts: true,
    });
    this.parser = new TarParser(this.tree);
  }

  /** Takes the next bytes of the blob; resolves when more may come. @throws what is wrong with the layer, or this machine. */
  async write(chunk: Buffer): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    if (this.sniffed) return this.decode(chunk);
    this.head.push(chunk);
    this.headBytes += chunk.length;
    if (this.headBytes >= 4) await this.start();
  }

  private async start(): Promise<void> {
    this.sniffed = true;
    const first = this.head.length === 1 && this.head[0] !== undefined ? this.head[0] : Buffer.concat(this.head);
    this.head = [];
    const compression = sniffCompression(first);
    if (compression === 'bzip2' || compression === 'xz')
      throw new LayerEntryError(`layers compressed with ${compression} are not supported`);
    if (compression === 'gzip') this.decoder = createGunzip({ chunkSize });
    else if (compression === 'zstd') this.decoder = createZstdDecompress({ chunkSize });
    this.decoder?.on('data', (piece: Buffer) => {
      try {
        this.takePlain(piece);
      } catch (error) {
        this.fail(error);
      }
    });
    this.decoder?.on('drain', () => this.wake());
    this.decoder?.on('end', () => {
      this.ended = true;
      this.wake();
    });
    this.decoder?.on('close', () => this.wake());
    this.decoder?.on('error', (error) =>
      this.fail(new LayerEntryError(`layer cannot be decompressed: ${error.message}`, { cause: error })),
    );
    await this.decode(first);
  }

  private async decode(chunk: Buffer): Promise<void> {
    if (this.decoder === undefined) {
      this.takePlain(chunk);
      return;
    }
    if (!this.decoder.write(chunk)) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        if (this.decoder?.destroyed) resolve();
      });
    }
    if (this.failure !== undefined) throw this.failure;
  }

  private takePlain(piece: Buffer): void {
    this.verifier?.update(piece);
    this.plainBytes += piece.length;
    if (this.plainBytes > this.maxBytes) throw new LayerEntryError(this.tooLarge);
    this.parser.push(piece);
  }

  private fail(error: unknown): void {
    if (this.failure === undefined) this.failure = error;
    this.decoder?.destroy();
  }

  /** Ends the layer. @throws LayerEntryError when the diffID is another, or the tar was cut. */
  async finish(): Promise<UnpackedLayer> {
    if (!this.sniffed) await this.start();
    if (this.decoder !== undefined) {
      const decoder = this.decoder;
      // Settles in any case: a failure destroys the decoder, which closes.
      await new Promise<void>((resolve) => {
        this.wake = () => {
          if (this.ended || decoder.closed) resolve();
        };
        decoder.end();
        this.wake();
      });
    }
    if (this.failure !== undefined) throw this.failure;
    this.parser.end();
    if (this.verifier?.verified() === false) throw new LayerEntryError("layers from manifest don't match image configuration");
    this.tree.finish();
    const diffId = this.knownDiffId ?? this.verifier?.digest();
    if (diffId === undefined) throw new LayerEntryError('layer has no diffID');
    return { diffId, sizeBytes: this.tree.sizeBytes };
  }

  /** Lets go of everything after a failure; the directory is the caller's to remove. */
  abandon(): void {
    this.failure ??= new LayerEntryError('given up');
    this.decoder?.destroy();
    this.tree.abandon();
  }
}
