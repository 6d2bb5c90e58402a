/** What the cache knows sources by: names, kinds, modes, owners, links and bytes; never times. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, createReadStream, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { keptAttributes } from '../../layers/keptAttributes.ts';
import { Turns } from '../../turns.ts';
import type { PathFilter } from './copyTree.ts';

/** Of directories by their paths below a root, for as long as nothing in them changes. */
export interface DirectoryDigests {
  /** To be given with what is found out from now on. */
  now(): number;
  get(path: string): string | undefined;
  set(path: string, digest: string, asOf: number): void;
}

export interface HashOptions {
  /** Owners count only where they are kept. */
  readonly owners: boolean;
  readonly excluded?: PathFilter;
  /** For directories below a root, all of which counts, but the owners. */
  readonly known?: { readonly root: string; readonly digests: DirectoryDigests };
}

const smallBytes = 1024 * 1024;
const settledMs = 50;
/** What all read into, since nothing else runs meanwhile: made when it is first needed. */
let room: Buffer | undefined;

/** @returns `file:<hex>` or `dir:<hex>`. */
export async function contentHash(path: string, options: HashOptions, signal: AbortSignal): Promise<string> {
  const stat = lstatSync(path);
  const hasher = new ContentHasher(options, signal);
  if (stat.isDirectory()) return `dir:${await hasher.directory(path, '')}`;
  const hash = createHash('sha256');
  describe(hash, path, '', stat, options);
  if (stat.isFile()) hash.update(await fileDigest(path, stat));
  return `file:${hash.digest('hex')}`;
}

/** A directory's digest is of what is directly in it, and of the digests of the directories there. */
class ContentHasher {
  private readonly options: HashOptions;
  private readonly signal: AbortSignal;
  private readonly known: HashOptions['known'];
  private readonly asOf: number;
  private readonly turns = new Turns();

  constructor(options: HashOptions, signal: AbortSignal) {
    this.options = options;
    this.signal = signal;
    this.known = options.owners || options.excluded !== undefined ? undefined : options.known;
    this.asOf = this.known?.digests.now() ?? 0;
  }

  /** @param relative - its path below what is copied. */
  async directory(path: string, relative: string): Promise<string> {
    const { known } = this;
    const name = known === undefined ? '' : below(known.root, path);
    const before = known?.digests.get(name);
    if (before !== undefined) return before;
    const hash = createHash('sha256');
    for (const child of readdirSync(path).sort())
      await this.child(hash, child, join(path, child), relative === '' ? child : `${relative}/${child}`);
    const digest = hash.digest('hex');
    known?.digests.set(name, digest, this.asOf);
    return digest;
  }

  private async child(hash: Hash, name: string, path: string, relative: string): Promise<void> {
    await this.turns.pass();
    this.signal.throwIfAborted();
    const stat = lstatSync(path);
    // An exception (`!`) may bring back what lies below an excluded directory.
    if (!stat.isDirectory() && this.options.excluded?.(relative, false) === true) return;
    describe(hash, path, name, stat, this.options);
    if (stat.isFile()) hash.update(await fileDigest(path, stat));
    else if (stat.isDirectory()) hash.update(await this.directory(path, relative));
  }
}

function below(root: string, path: string): string {
  return path.slice(root.length).replace(/^\/+/, '');
}

function describe(hash: Hash, path: string, name: string, stat: Stats, { owners }: HashOptions): void {
  const link = stat.isSymbolicLink() ? readlinkSync(path) : '';
  const attributes = [...keptAttributes(path)].map(([key, value]) => [key, value.toString('base64')]);
  const owner = owners ? [stat.uid, stat.gid] : [];
  const size = stat.isFile() ? stat.size : 0;
  hash.update(`${JSON.stringify([name, stat.mode, size, stat.rdev, link, owner, attributes])}\n`);
}

/** Of files that were read before: contexts that are kept between builds are not read again where nothing changed. Nobody can set a change time. */
const known = new Map<string, Buffer>();
const mostKnown = 50_000;

async function fileDigest(path: string, { dev, ino, size, ctimeMs, mtimeMs }: Stats): Promise<Buffer> {
  const key = `${dev} ${ino} ${size} ${ctimeMs} ${mtimeMs}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const hash = createHash('sha256');
  await hashFile(hash, path, size);
  const digest = hash.digest();
  // A file that was changed a moment ago may be changed again within one tick of the clock.
  if (Date.now() - ctimeMs < settledMs) return digest;
  if (known.size >= mostKnown) known.clear();
  known.set(key, digest);
  return digest;
}

async function hashFile(hash: Hash, path: string, size: number): Promise<void> {
  if (size > smallBytes) {
    for await (const chunk of createReadStream(path, { highWaterMark: smallBytes }) as AsyncIterable<Buffer>) hash.update(chunk);
    return;
  }
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    room ??= Buffer.allocUnsafe(smallBytes);
    for (let length = readSync(fd, room); length > 0; length = readSync(fd, room)) hash.update(room.subarray(0, length));
  } finally {
    closeSync(fd);
  }
}
