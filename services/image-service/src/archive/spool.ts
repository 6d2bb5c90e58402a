/**
 * An archive's files on disk, each with its digest, by the name it has in the archive. Names are only keys here: the files are numbered, so
 * that no name can lead anywhere.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { type Digest, DigestVerifier } from '@flotilla/oci';
import { TarError } from '@flotilla/tar';
import { roomIn } from '../room.ts';
import type { TarEntry } from '../tar/header.ts';
import { type TarHandler, TarParser } from '../tar/parser.ts';

export interface SpooledFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly digest: Digest;
}

const maxFiles = 20_000;

export class SpooledArchive implements TarHandler {
  private readonly directory: string;
  private readonly onFile: (file: SpooledFile) => void;
  private readonly files = new Map<string, SpooledFile>();
  private readonly byDigest = new Map<Digest, SpooledFile>();
  private readonly links = new Map<string, string>();
  private current: { name: string; path: string; fd: number; verifier: DigestVerifier } | undefined;
  private left: number;
  private count = 0;

  private constructor(directory: string, onFile: (file: SpooledFile) => void) {
    this.directory = directory;
    this.onFile = onFile;
    this.left = roomIn(directory);
  }

  /**
   * Reads a whole tar into `directory`.
   *
   * @param onFile - told of each file as soon as it is whole.
   * @throws InvalidParameter when it is no tar, or a hostile one.
   */
  static async read(
    source: AsyncIterable<Buffer>,
    directory: string,
    onFile: (file: SpooledFile) => void = () => undefined,
  ): Promise<SpooledArchive> {
    const archive = new SpooledArchive(directory, onFile);
    const parser = new TarParser(archive);
    try {
      for await (const chunk of source) parser.push(chunk);
      parser.end();
    } catch (error) {
      if (error instanceof TarError) throw new InvalidParameter(`invalid archive: ${error.message}`, { cause: error });
      if (error instanceof Error && 'code' in error && typeof error.code === 'string' && /^(Z_|ZSTD_|ERR_ZSTD)/.test(error.code)) {
        throw new InvalidParameter(`invalid archive: ${error.message}`, { cause: error });
      }
      throw error;
    } finally {
      archive.closeCurrent();
    }
    return archive;
  }

  entry(entry: TarEntry): void {
    this.count++;
    if (this.count > maxFiles) throw new InvalidParameter(`invalid archive: more than ${maxFiles} entries`);
    const name = cleanName(entry.name);
    if (entry.type === 'symlink' || entry.type === 'link') {
      // `docker save` before 25 wrote a layer that several images share once, and links to it.
      const base = entry.type === 'symlink' && name.includes('/') ? `${name.slice(0, name.lastIndexOf('/'))}/` : '';
      this.links.set(name, cleanName(base + entry.linkName));
      return;
    }
    if (entry.type !== 'file') return;
    this.left -= entry.sizeBytes;
    if (this.left < 0) throw new InvalidParameter('no space left on device for the archive');
    const path = join(this.directory, `${this.count}`);
    this.current = { name, path, fd: openSync(path, 'wx', 0o600), verifier: new DigestVerifier() };
  }

  data(chunk: Buffer): void {
    if (this.current === undefined) return;
    this.current.verifier.update(chunk);
    for (let at = 0; at < chunk.length; ) at += writeSync(this.current.fd, chunk, at, chunk.length - at);
  }

  entryEnd(): void {
    if (this.current === undefined) return;
    const { name, path, verifier } = this.current;
    this.closeCurrent();
    const file = { path, sizeBytes: verifier.sizeBytes, digest: verifier.digest() };
    this.files.set(name, file);
    this.byDigest.set(file.digest, file);
    this.onFile(file);
  }

  private closeCurrent(): void {
    if (this.current !== undefined) closeSync(this.current.fd);
    this.current = undefined;
  }

  /** The file of a name, through links. */
  find(name: string): SpooledFile | undefined {
    let at = cleanName(name);
    for (let followed = 0; followed < 10; followed++) {
      const file = this.files.get(at);
      if (file !== undefined) return file;
      const target = this.links.get(at);
      if (target === undefined) return undefined;
      at = target;
    }
    return undefined;
  }

  /** The file with this content. */
  withDigest(digest: Digest): SpooledFile | undefined {
    return this.byDigest.get(digest);
  }

  /** A small file. @throws InvalidParameter when it is missing or larger than `maxBytes`. */
  async bytes(name: string, maxBytes: number): Promise<Buffer> {
    const file = this.find(name);
    if (file === undefined) throw new InvalidParameter(`invalid archive: ${name} is missing`);
    return readSpooled(file, maxBytes, name);
  }
}

export async function readSpooled(file: SpooledFile, maxBytes: number, name: string): Promise<Buffer> {
  if (file.sizeBytes > maxBytes) throw new InvalidParameter(`invalid archive: ${name} is larger than ${maxBytes} bytes`);
  return readFile(file.path);
}

function cleanName(name: string): string {
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw new InvalidParameter(`invalid archive: "${name}" leads outside of it`);
  }
  return parts.join('/');
}
