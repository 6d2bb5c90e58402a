/** `flotilla logs`: the log files of the stack, the end of each, and what comes after. */
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, statSync, watch } from 'node:fs';
import { InvalidParameter, NotFound } from '@flotilla/errors/classes';
import { type Roots, stackPaths } from '../stack/paths.ts';

export interface LogsOptions {
  readonly service: string | undefined;
  readonly follow: boolean;
  /** A number of lines, or `all`. */
  readonly tail: string;
}

const blockBytes = 64 * 1024;

export async function logs(roots: Roots, options: LogsOptions): Promise<void> {
  const directory = stackPaths(roots).logs;
  const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.log')) : [];
  const wanted = options.service === undefined ? names : names.filter((name) => name === `${options.service}.log`);
  if (wanted.length === 0)
    throw new NotFound(options.service === undefined ? `no logs in ${directory}` : `no log of ${options.service} in ${directory}`);
  if (options.tail !== 'all' && !/^\d+$/.test(options.tail)) throw new InvalidParameter(`invalid value for --tail: ${options.tail}`);
  const lines = options.tail === 'all' ? Number.POSITIVE_INFINITY : Number(options.tail);
  const several = wanted.length > 1;
  const followers = wanted.map((name) => {
    const path = `${directory}/${name}`;
    const prefix = several ? `${name.slice(0, -'.log'.length).padEnd(18)}| ` : '';
    const end = statSync(path).size;
    print(tailOf(path, lines), prefix);
    return { path, prefix, offset: end };
  });
  if (options.follow) await follow(directory, followers);
}

function print(text: string, prefix: string): void {
  if (text === '') return;
  const whole = text.endsWith('\n') ? text.slice(0, -1) : text;
  process.stdout.write(
    `${whole
      .split('\n')
      .map((line) => `${prefix}${line}`)
      .join('\n')}\n`,
  );
}

/** The last `lines` lines of a file, read backwards from its end. */
export function tailOf(path: string, lines: number): string {
  if (!existsSync(path) || lines === 0) return '';
  const fd = openSync(path, 'r');
  try {
    const chunks: Buffer[] = [];
    let position = fstatSync(fd).size;
    let newlines = 0;
    while (position > 0 && newlines <= lines) {
      const length = Math.min(blockBytes, position);
      position -= length;
      const block = Buffer.alloc(length);
      readSync(fd, block, 0, length, position);
      for (const byte of block) if (byte === 0x0a) newlines++;
      chunks.unshift(block);
    }
    const text = Buffer.concat(chunks).toString();
    const all = (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
    const kept = all.slice(Math.max(0, all.length - lines));
    return text === '' ? '' : `${kept.join('\n')}\n`;
  } finally {
    closeSync(fd);
  }
}

interface Follower {
  readonly path: string;
  readonly prefix: string;
  offset: number;
}

/** Shows whole lines as they are written, until the process is interrupted. A file that shrank was rotated: its new content is shown from the start. */
async function follow(directory: string, followers: readonly Follower[]): Promise<void> {
  const show = (): void => {
    for (const follower of followers) showNew(follower);
  };
  const watcher = watch(directory, show);
  show();
  await new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  watcher.close();
}

function showNew(follower: Follower): void {
  const fd = openSync(follower.path, 'r');
  try {
    const { size } = fstatSync(fd);
    if (size < follower.offset) follower.offset = 0;
    const block = Buffer.alloc(size - follower.offset);
    readSync(fd, block, 0, block.length, follower.offset);
    const end = block.lastIndexOf(0x0a) + 1;
    follower.offset += end;
    print(block.subarray(0, end).toString(), follower.prefix);
  } finally {
    closeSync(fd);
  }
}
