/**
 * Uploads into the proxy's own repositories: a file that grows chunk by chunk. Its name carries the repository's hash, so an upload belongs to
 * one repository; its length is how far it has come, so it outlives a restart.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { type Digest, digestAlgorithm, digestHex } from '@flotilla/oci';
import { batches } from '../cache/batches.ts';
import { PartialFile } from '../cache/partialFile.ts';
import { DistributionError } from '../distributionError.ts';
import type { OwnStore } from './ownStore.ts';

const batchBytes = 4 * 1024 * 1024;
const abandonedMs = 7 * 86_400_000;

export class OwnUploads {
  private readonly store: OwnStore;
  private readonly maxBlobBytes: number;

  constructor(parts: { store: OwnStore; maxBlobBytes: number }) {
    this.store = parts.store;
    this.maxBlobBytes = parts.maxBlobBytes;
  }

  /** Removes what clients left behind a week ago. */
  async removeAbandoned(): Promise<void> {
    for (const id of await readdir(this.store.uploadsFolder).catch(() => [])) {
      const path = join(this.store.uploadsFolder, id);
      const about = await stat(path).catch(() => undefined);
      if (about !== undefined && about.mtimeMs < Date.now() - abandonedMs) await rm(path, { force: true });
    }
  }

  async begin(name: string): Promise<string> {
    const id = `${randomUUID()}.${nameHash(name)}`;
    await mkdir(this.store.uploadsFolder, { recursive: true });
    const handle = await open(this.path(id), 'wx', 0o600);
    await handle.close();
    return id;
  }

  private path(id: string): string {
    return join(this.store.uploadsFolder, id);
  }

  /** Bytes that have arrived. @throws DistributionError BLOB_UPLOAD_UNKNOWN */
  async size(name: string, id: string): Promise<number> {
    const about = isIdOf(name, id) ? await stat(this.path(id)).catch(() => undefined) : undefined;
    if (about === undefined) throw new DistributionError('BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
    return about.size;
  }

  /**
   * Adds a chunk.
   *
   * @param range - the header Content-Range, `<start>-<end>`; undefined: what follows.
   * @returns bytes that have arrived.
   * @throws DistributionError 416 when it does not begin where the last one ended; the upload goes on being what it was.
   */
  async append(name: string, id: string, body: Readable, range: string | undefined): Promise<number> {
    await this.size(name, id);
    return this.withFile(id, async (file) => {
      const before = await file.size();
      const expected = range === undefined ? undefined : lengthOf(range, before);
      let at = before;
      try {
        for await (const batch of batches(body, batchBytes)) {
          const length = batch.reduce((sum, chunk) => sum + chunk.length, 0);
          if (at + length > this.maxBlobBytes)
            throw new DistributionError('SIZE_INVALID', 'blob is larger than this registry takes', { status: 413 });
          await file.write(batch, at, length);
          at += length;
        }
        if (expected !== undefined && at - before !== expected)
          throw new DistributionError('SIZE_INVALID', 'provided length did not match content length');
      } catch (error) {
        await file.truncate(before);
        throw error;
      }
      return at;
    });
  }

  /** Ends it: the bytes are verified and become a blob of the repository. */
  async finish(name: string, id: string, digest: Digest): Promise<void> {
    await this.size(name, id);
    await this.withFile(id, async (file) => {
      const hash = createHash(digestAlgorithm(digest));
      await file.reread((chunk) => hash.update(chunk));
      if (hash.digest('hex') !== digestHex(digest)) {
        await file.remove();
        throw new DistributionError('DIGEST_INVALID', 'provided digest did not match uploaded content');
      }
      await this.store.putBlob(name, digest, file);
    });
  }

  async cancel(name: string, id: string): Promise<void> {
    await this.size(name, id);
    await rm(this.path(id), { force: true });
  }

  /** One request at a time writes an upload, whichever replica it meets. */
  private async withFile<T>(id: string, work: (file: PartialFile) => Promise<T>): Promise<T> {
    const file = await PartialFile.open(this.path(id));
    try {
      if (!(await file.lock()))
        throw new DistributionError('BLOB_UPLOAD_INVALID', 'another request is writing this upload', { status: 409 });
      return await work(file);
    } finally {
      await file.close();
    }
  }
}

function nameHash(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}

function isIdOf(name: string, id: string): boolean {
  return /^[0-9a-f-]{36}\.[0-9a-f]{32}$/.test(id) && id.endsWith(nameHash(name));
}

/** How many bytes a chunk has that begins at `start`. */
function lengthOf(range: string, start: number): number {
  const [, first = '', last = ''] = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/.*)?$/.exec(range) ?? [];
  if (first === '' || Number(first) !== start || Number(last) < start - 1) {
    throw new DistributionError('RANGE_INVALID', 'invalid content range', { headers: start === 0 ? {} : { range: `0-${start - 1}` } });
  }
  return Number(last) - start + 1;
}
