/** What the cache knows sources by: names, kinds, modes, owners, links and bytes; never times. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, createReadStream, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { keptAttributes } from '../../layers/keptAttributes.ts';
import type { PathFilter } from './copyTree.ts';

export interface HashOptions {
  /** Owners count only where they are kept. */
  readonly owners: boolean;
  readonly excluded?: PathFilter;
}

const smallBytes = 1024 * 1024;
const entriesATurn = 200;
const settledMs = 50;
const buffer = Buffer.allocUnsafe(smallBytes);

/** @returns `file:<hex>` or `dir:<hex>`. */
export async function contentHash(path: string, options: HashOptions, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const stat = lstatSync(path);
  let count = 0;
  const visit = async (absolute: string, relative: string, found: Stats): Promise<void> => {
    if (++count % entriesATurn === 0) {
      await nextTurn();
      signal.throwIfAborted();
    }
    describe(hash, absolute, relative, found, options);
    if (found.isFile()) hash.update(await fileDigest(absolute, found));
    if (!found.isDirectory()) return;
    for (const name of readdirSync(absolute).sort()) {
      const child = relative === '' ? name : `${relative}/${name}`;
      const childPath = join(absolute, name);
      const childStat = lstatSync(childPath);
      if (options.excluded?.(child, childStat.isDirectory()) === true && !childStat.isDirectory()) continue;
      await visit(childPath, child, childStat);
    }
  };
  await visit(path, '', stat);
  return `${stat.isDirectory() ? 'dir' : 'file'}:${hash.digest('hex')}`;
}

function describe(hash: Hash, path: string, relative: string, stat: Stats, { owners }: HashOptions): void {
  // The directory itself is made by whoever copies it.
  if (relative === '' && stat.isDirectory()) return;
  const link = stat.isSymbolicLink() ? readlinkSync(path) : '';
  const attributes = [...keptAttributes(path)].map(([name, value]) => [name, value.toString('base64')]);
  const owner = owners ? [stat.uid, stat.gid] : [];
  const size = stat.isFile() ? stat.size : 0;
  hash.update(`${JSON.stringify([relative, stat.mode, size, stat.rdev, link, owner, attributes])}\n`);
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
    for (let length = readSync(fd, buffer); length > 0; length = readSync(fd, buffer)) hash.update(buffer.subarray(0, length));
  } finally {
    closeSync(fd);
  }
}
