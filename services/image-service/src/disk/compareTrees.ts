/** Whether two directory trees are the same, to the last attribute. */
import { createReadStream, lstatSync, readlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, lgetxattr, llistxattr } from '@flotilla/syscalls';

const readBytes = 256 * 1024;

/** The first difference in words; undefined when there is none. */
export async function differenceOf(actual: string, wanted: string, signal: AbortSignal): Promise<string | undefined> {
  const pending = [''];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    signal.throwIfAborted();
    const [names, wantedNames] = await Promise.all([readdir(join(actual, directory)), readdir(join(wanted, directory))]);
    const known = new Set(names);
    const extra = names.length > wantedNames.length ? names.find((name) => !wantedNames.includes(name)) : undefined;
    if (extra !== undefined) return `${join(directory, extra)} does not belong there`;
    for (const name of wantedNames) {
      const path = join(directory, name);
      if (!known.has(name)) return `${path} is missing`;
      const difference = await differenceAt(join(actual, path), join(wanted, path));
      if (difference !== undefined) return `${path} ${difference}`;
      if (lstatSync(join(wanted, path)).isDirectory()) pending.push(path);
    }
  }
  return undefined;
}

async function differenceAt(actual: string, wanted: string): Promise<string | undefined> {
  const [a, b] = [lstatSync(actual), lstatSync(wanted)];
  if (a.mode !== b.mode) return `has mode ${a.mode.toString(8)}, not ${b.mode.toString(8)}`;
  if (a.uid !== b.uid || a.gid !== b.gid) return `belongs to ${a.uid}:${a.gid}, not ${b.uid}:${b.gid}`;
  if (a.rdev !== b.rdev) return 'is another device';
  if (b.isSymbolicLink() && readlinkSync(actual) !== readlinkSync(wanted)) return 'leads elsewhere';
  if (attributesOf(actual) !== attributesOf(wanted)) return 'has other attributes';
  // A time is no content: only that of a file whose bytes may have been changed says something, and those are read.
  if (!b.isFile()) return undefined;
  if (a.size !== b.size) return `has ${a.size} bytes, not ${b.size}`;
  return (await sameContent(actual, wanted)) ? undefined : 'has other content';
}

function attributesOf(path: string): string {
  return llistxattr(path)
    .sort()
    .map((name) => `${name}=${lgetxattr(path, name)?.toString('hex')}`)
    .join('\n');
}

async function sameContent(actual: string, wanted: string): Promise<boolean> {
  const other = createReadStream(wanted, { highWaterMark: readBytes })[Symbol.asyncIterator]();
  try {
    for await (const chunk of createReadStream(actual, { highWaterMark: readBytes }) as AsyncIterable<Buffer>) {
      const { value, done } = (await other.next()) as IteratorResult<Buffer>;
      if (done === true || !chunk.equals(value)) return false;
    }
    return true;
  } catch (error) {
    if (hasCode(error, 'EIO')) return false;
    throw error;
  } finally {
    await other.return?.();
  }
}
