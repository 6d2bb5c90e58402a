import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { digestOf } from '@flotilla/oci';
import { createLogger } from '@flotilla/service-kit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DistributionError } from '../distributionError.ts';
import { BlobFill, type BlobSource } from './blobFill.ts';
import { BlobStore } from './blobStore.ts';

const logger = createLogger({ service: 'test', instance: 'test', level: 'silent' });
const content = randomBytes(100_000);
const digest = digestOf(content);
let root: string;

class Source implements BlobSource {
  readonly key = 'app as anybody';
  readonly repository = 'registry.example/app';
  fetches = 0;
  checks = 0;
  refusal: Error | undefined;

  async fetch(): ReturnType<BlobSource['fetch']> {
    this.fetches++;
    return { body: Readable.from([content]), from: 0, sizeBytes: content.length, origin: 'https://registry.example', disown: () => false };
  }

  async check(): Promise<number> {
    this.checks++;
    if (this.refusal !== undefined) throw this.refusal;
    return content.length;
  }
}

const openStore = (): Promise<BlobStore> => BlobStore.open(root, { maxBytes: 1_000_000 }, logger);
const fill = (store: BlobStore, source: BlobSource): BlobFill =>
  new BlobFill(digest, source, { store, settings: { retryPausesMs: [], maxBlobBytes: 1_000_000 }, logger });

describe('a blob that another replica on the data root completed since it was looked for', () => {
  let store: BlobStore;
  let source: Source;
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'flotilla-fill-'));
    store = await openStore();
    const other = new Source();
    await fill(await openStore(), other).finished;
    expect(other.fetches).toBe(1);
    source = new Source();
  });
  afterEach(() => rmSync(root, { recursive: true }));

  it('is not fetched again', async () => {
    const late = fill(store, source);
    const reader = late.follow();
    await late.finished;
    expect([source.fetches, source.checks]).toEqual([0, 1]);
    expect(await reader.available(0)).toBe(content.length);
    const read = Buffer.alloc(content.length);
    await reader.read(read, content.length, 0);
    await reader.close();
    expect(digestOf(read)).toBe(digest);
    expect(existsSync(store.partialPath(digest))).toBe(false);
  });

  it('is for nobody whom the upstream refuses', async () => {
    source.refusal = new DistributionError('DENIED', 'requested access to the resource is denied', { status: 403 });
    const late = fill(store, source);
    await expect(late.opened).rejects.toThrow('denied');
    await expect(late.finished).rejects.toThrow('denied');
    expect(source.fetches).toBe(0);
    expect(existsSync(store.partialPath(digest))).toBe(false);
  });
});
