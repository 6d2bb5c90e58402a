import { readFileSync } from 'node:fs';
import { appendFile, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogPins, logEnd, type ReadLogOptions, readLog, rotateLog } from './index.ts';
import { trimLog } from './rotate.ts';

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'flotilla-logs-'));
  path = join(directory, 'ctr.log');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function record(second: number, body: string, stream: 'stdout' | 'stderr' = 'stdout', flag: 'P' | 'F' = 'F'): string {
  return `${time(second)}+00:00 ${stream} ${flag} ${body}\n`;
}

function time(second: number): string {
  return `${new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString().slice(0, 19)}.123456789`;
}

function nanoseconds(second: number): bigint {
  return BigInt(Date.UTC(2026, 0, 1) + second * 1000) * 1_000_000n;
}

async function collect(options: Partial<ReadLogOptions> = {}): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of readLog({ path, stdout: true, stderr: true, tty: true, ...options })) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** What this process has asked files for. */
function bytesRead(): number {
  return Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}

describe('reading a finished log', () => {
  it('gives the bytes as they were written, pieces joined', async () => {
    await writeFile(path, record(0, 'one') + record(1, 'tw', 'stdout', 'P') + record(1, 'o') + record(2, 'end', 'stdout', 'P'));
    expect(await collect()).toBe('one\ntwo\nend');
  });

  it('frames each line once, by stream', async () => {
    await writeFile(path, record(0, 'a') + record(0, 'b', 'stderr') + record(0, 'c', 'stdout', 'P') + record(0, 'd'));
    const chunks: Buffer[] = [];
    for await (const chunk of readLog({ path, stdout: true, stderr: true, tty: false })) chunks.push(chunk);
    expect(Buffer.concat(chunks)).toEqual(Buffer.concat([frame(1, 'a\n'), frame(2, 'b\n'), frame(1, 'cd\n')]));
  });

  it('shows only the stream asked for', async () => {
    await writeFile(path, record(0, 'a') + record(0, 'b', 'stderr') + record(0, 'c'));
    expect(await collect({ stderr: false })).toBe('a\nc\n');
    expect(await collect({ stdout: false })).toBe('b\n');
  });

  it('puts time and details before each line, not before each piece', async () => {
    await writeFile(path, record(0, 'x', 'stdout', 'P') + record(1, 'y') + record(2, 'z'));
    expect(await collect({ timestamps: true, details: 'k=v ' })).toBe(`${time(0)}Z k=v xy\n${time(2)}Z k=v z\n`);
  });

  it('grows its buffer for details longer than the record', async () => {
    await writeFile(path, Array.from({ length: 500 }, (_, index) => record(index, 'x')).join(''));
    const details = `${'d'.repeat(400)} `;
    expect(await collect({ details })).toBe(`${details}x\n`.repeat(500));
  });

  it('reads nothing where nothing was written', async () => {
    expect(await collect()).toBe('');
  });

  it('skips a torn record and leaves an unfinished one', async () => {
    await writeFile(path, `2026-01-01T\n${record(1, 'whole')}2026-01-01T00:00:02.123456789+00:00 stdout F half`);
    expect(await collect()).toBe('whole\n');
  });

  it.each([
    [0, ''],
    [1, '9\n'],
    [3, '7\n8\n9\n'],
    [10, '0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n'],
    [99, '0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n'],
  ])('tail %i', async (tail, expected) => {
    await writeFile(`${path}.1`, [0, 1, 2, 3].map((n) => record(n, `${n}`)).join(''));
    await writeFile(path, [4, 5, 6, 7, 8, 9].map((n) => record(n, `${n}`)).join(''));
    expect(await collect({ tail })).toBe(expected);
  });

  it('counts lines, not pieces, for tail', async () => {
    await writeFile(
      path,
      record(0, 'a') + record(1, 'b', 'stdout', 'P') + record(1, 'b', 'stdout', 'P') + record(1, 'b') + record(2, 'c', 'stdout', 'P'),
    );
    expect(await collect({ tail: 1 })).toBe('c');
    expect(await collect({ tail: 2 })).toBe('bbb\nc');
  });

  it('finds the tail of a log larger than a block', async () => {
    await writeFile(path, Array.from({ length: 20_000 }, (_, n) => record(n, `line ${n}`)).join(''));
    for (const tail of [1, 777, 1999]) {
      const lines = (await collect({ tail })).trimEnd().split('\n');
      expect(lines).toHaveLength(tail);
      expect(lines[0]).toBe(`line ${20_000 - tail}`);
    }
  });

  it('reads little of a large log for its tail, or what was written since', async () => {
    const lines = 4_000;
    for (const [index, segment] of [`${path}.1`, path].entries()) {
      await writeFile(segment, Array.from({ length: lines }, (_, n) => record(index * lines + n, 'x'.repeat(5_000))).join(''));
    }
    const size = (await stat(path)).size;
    expect(size).toBeGreaterThan(20_000_000);
    for (const options of [{ tail: 10 }, { since: nanoseconds(2 * lines - 10) }, { since: nanoseconds(2 * lines - 10), tail: 20 }]) {
      const before = bytesRead();
      expect((await collect(options)).trimEnd().split('\n')).toHaveLength(10);
      expect(bytesRead() - before).toBeLessThan(size / 10);
    }
  });

  it('bisects for since, over all segments', async () => {
    await writeFile(`${path}.1`, Array.from({ length: 5_000 }, (_, n) => record(n, `${n}`)).join(''));
    await writeFile(path, Array.from({ length: 5_000 }, (_, n) => record(n + 5_000, `${n + 5_000}`)).join(''));
    for (const second of [0, 1, 4_999, 5_000, 7_654]) {
      const lines = (await collect({ since: nanoseconds(second) })).trimEnd().split('\n');
      expect(lines[0]).toBe(`${second}`);
      expect(lines).toHaveLength(10_000 - second);
    }
    expect(await collect({ since: nanoseconds(20_000) })).toBe('');
    expect(await collect({ since: nanoseconds(3), until: nanoseconds(5) })).toBe('3\n4\n');
    expect(await collect({ since: nanoseconds(9_990), tail: 3 })).toBe('9997\n9998\n9999\n');
  });
});

describe('following', () => {
  it('waits for the file, follows it, and ends when the container has', async () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const reading = collect({ follow: true, ended });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await writeFile(path, record(0, 'first'));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await appendFile(path, record(1, 'second'));
    await appendFile(path, record(2, 'last'));
    end();
    expect(await reading).toBe('first\nsecond\nlast\n');
  });

  it('leaves out what is written before a time that is still to come', async () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    await writeFile(path, record(0, 'old'));
    const reading = collect({ follow: true, ended, since: nanoseconds(2) });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await appendFile(path, record(1, 'early') + record(1, 'pie', 'stdout', 'P') + record(1, 'ce') + record(2, 'due'));
    await appendFile(path, record(3, 'last'));
    end();
    expect(await reading).toBe('due\nlast\n');
  });

  it('ends at once when its signal fires', async () => {
    await writeFile(path, record(0, 'x'));
    const abort = new AbortController();
    const reading = collect({ follow: true, signal: abort.signal });
    setTimeout(() => abort.abort(), 20);
    expect(await reading).toBe('x\n');
  });

  it('goes on over rotations and resumes at a position', async () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    await writeFile(path, record(0, 'old'));
    const from = await logEnd(path);
    const reading = collect({ follow: true, ended, from });
    for (let round = 0; round < 5; round += 1) {
      await appendFile(path, record(round, `before ${round}`));
      await rotateLog({ path, maxSizeBytes: 1, maxFiles: 9, reopen: () => writeFile(path, '') });
      await appendFile(path, record(round, `after ${round}`));
    }
    end();
    const expected = [0, 1, 2, 3, 4].map((round) => `before ${round}\nafter ${round}\n`).join('');
    expect(await reading).toBe(expected);
    expect(await collect({ from })).toBe(expected);
  });

  it('neither loses nor doubles a byte when another reader takes over', async () => {
    await writeFile(path, Array.from({ length: 50_000 }, (_, n) => record(n, `${n}`)).join(''));
    const reader = readLog({ path, stdout: true, stderr: true, tty: true });
    let text = '';
    for await (const chunk of reader) {
      text += chunk.toString();
      break;
    }
    text += await collect({ from: reader.place });
    expect(text).toBe(Array.from({ length: 50_000 }, (_, n) => `${n}\n`).join(''));
  });
});

describe('rotation', () => {
  it('keeps the number of files asked for', async () => {
    for (let round = 0; round < 5; round += 1) {
      await appendFile(path, record(round, `${round}`));
      await rotateLog({ path, maxSizeBytes: 1, maxFiles: 3, reopen: () => writeFile(path, '') });
    }
    expect(await collect()).toBe('3\n4\n');
  });

  it('does not rotate below the size', async () => {
    await writeFile(path, record(0, 'x'));
    expect(await rotateLog({ path, maxSizeBytes: 1000, maxFiles: 3, reopen: () => Promise.reject(new Error('not now')) })).toBe(false);
  });

  it('asks again when conmon missed the first message', async () => {
    await writeFile(path, record(0, 'x'));
    let asked = 0;
    const reopen = async (): Promise<void> => {
      asked += 1;
      if (asked === 2) await writeFile(path, '');
    };
    expect(await rotateLog({ path, maxSizeBytes: 1, maxFiles: 3, reopen })).toBe(true);
    expect(asked).toBe(2);
  });

  it('leaves what an attached reader has not read yet', async () => {
    const pins = new LogPins();
    await writeFile(path, record(0, 'first'));
    const reader = readLog({ path, stdout: true, stderr: true, tty: true, pins })[Symbol.asyncIterator]();
    expect((await reader.next()).value?.toString()).toBe('');
    expect((await reader.next()).value?.toString()).toBe('first\n');
    for (let round = 1; round < 6; round += 1) {
      await appendFile(path, record(round, `${round}`));
      await rotateLog({ path, maxSizeBytes: 1, maxFiles: 2, reopen: () => writeFile(path, ''), pins });
    }
    let rest = '';
    for (let next = await reader.next(); !next.done; next = await reader.next()) rest += next.value.toString();
    expect(rest).toBe('1\n2\n3\n4\n5\n');
  });

  it('leaves what a reader at another instance has not read yet', async () => {
    await writeFile(path, record(0, 'first'));
    let inodes = [(await stat(path)).ino];
    const grow = async (second: number): Promise<void> => {
      await rotateLog({ path, maxSizeBytes: 1, maxFiles: 2, reopen: () => writeFile(path, ''), readElsewhere: () => inodes });
      await appendFile(path, record(second, `${second}`));
    };
    for (const second of [1, 2, 3]) await grow(second);
    expect(await collect()).toBe('first\n1\n2\n3\n');
    inodes = [];
    await grow(4);
    expect(await collect()).toBe('3\n4\n');
  });

  it('finds a file that was renamed and not begun anew', async () => {
    await writeFile(path, record(0, 'x'));
    await rename(path, `${path}.1`);
    expect(await collect()).toBe('x\n');
  });
});

describe('rotation that compresses', () => {
  const rotate = (pins?: LogPins): Promise<boolean> =>
    rotateLog({ path, maxSizeBytes: 1, maxFiles: 4, compress: true, reopen: () => writeFile(path, ''), ...(pins && { pins }) });
  const files = async (): Promise<string[]> => (await readdir(directory)).sort();
  const grow = async (seconds: readonly number[], pins?: LogPins): Promise<void> => {
    for (const second of seconds) {
      await appendFile(path, record(second, `${second}`));
      await rotate(pins);
    }
  };

  it('leaves files that any gunzip reads, and a log that reads as before', async () => {
    await grow([0, 1, 2, 3, 4]);
    await appendFile(path, record(5, '5') + record(6, '6'));
    expect(await files()).toEqual(['ctr.log', 'ctr.log.1.gz', 'ctr.log.2.gz', 'ctr.log.3.gz']);
    expect(gunzipSync(await readFile(`${path}.1.gz`)).toString()).toBe(record(4, '4'));
    expect(await collect()).toBe('2\n3\n4\n5\n6\n');
    expect(await collect({ tail: 3 })).toBe('4\n5\n6\n');
    expect(await collect({ tail: 4 })).toBe('3\n4\n5\n6\n');
    expect(await collect({ since: nanoseconds(3) })).toBe('3\n4\n5\n6\n');
    expect(await collect({ since: nanoseconds(5) })).toBe('5\n6\n');
    expect(await files()).toHaveLength(4);
  });

  it('goes on under a reader that stands in what is compressed', async () => {
    await writeFile(path, Array.from({ length: 50_000 }, (_, n) => record(0, `${n}`)).join(''));
    const reader = readLog({ path, stdout: true, stderr: true, tty: true });
    let text = '';
    let place = reader.place;
    for await (const chunk of reader) {
      text += chunk.toString();
      if (text.length > 0 && (await files()).length === 1) {
        place = reader.place;
        await rotate();
        await grow([1, 2]);
      }
    }
    const whole = `${Array.from({ length: 50_000 }, (_, n) => `${n}\n`).join('')}1\n2\n`;
    expect(text).toBe(whole);
    expect(place.offset).toBeGreaterThan(0);
    const rest = await collect({ from: place });
    expect(whole.endsWith(rest)).toBe(true);
    expect(rest.length).toBeGreaterThan(1000);
  });

  it('waits for attached readers', async () => {
    const pins = new LogPins();
    const pin = pins.pin(path, 0, 0);
    await grow([0, 1], pins);
    expect(await files()).toEqual(['ctr.log', 'ctr.log.1', 'ctr.log.2']);
    pin.release();
    await grow([2], pins);
    expect(await files()).toEqual(['ctr.log', 'ctr.log.1.gz', 'ctr.log.2.gz', 'ctr.log.3.gz']);
  });

  it('does again what was cut off', async () => {
    await grow([0]);
    await writeFile(`${path}.1`, gunzipSync(await readFile(`${path}.1.gz`)));
    await writeFile(`${path}.1.gz.tmp`, 'half');
    await appendFile(path, record(1, '1'));
    expect(await collect()).toBe('0\n1\n');
    await rotate();
    await appendFile(path, record(2, '2'));
    expect(await collect()).toBe('0\n1\n2\n');
    expect(await files()).toEqual(['ctr.log', 'ctr.log.1.gz', 'ctr.log.2.gz']);
  });

  it('leaves what may still be written', async () => {
    await writeFile(path, record(0, '0'));
    await rename(path, `${path}.1`);
    await trimLog({ path, maxFiles: 4, compress: true });
    expect(await files()).toEqual(['ctr.log.1']);
  });
});

function frame(stream: number, text: string): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(text.length, 4);
  return Buffer.concat([header, Buffer.from(text)]);
}
