import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ReadCopies } from './readCopies.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-copies-'));
afterAll(() => rmSync(directory, { recursive: true }));
let count = 0;

function made(limitBytes?: number): {
  copies: ReadCopies;
  change: () => void;
  fetched: string[];
  read: (key: string) => Promise<string>;
} {
  const path = join(directory, `mark${count++}`);
  const fetched: string[] = [];
  const change = (): void => writeFileSync(path, String(count++).padStart(16, '0'));
  change();
  const copies = new ReadCopies({ markPaths: [() => path], ...(limitBytes === undefined ? {} : { limitBytes }) });
  const read = async (key: string): Promise<string> =>
    Buffer.from(
      await copies.read(key, async () => {
        fetched.push(key);
        return Buffer.from(`${key}${fetched.length}`);
      }),
    ).toString();
  return { copies, change, fetched, read };
}

describe('copies of reads', () => {
  it('are used until something changes', async () => {
    const { change, read } = made();
    expect(await read('a')).toBe('a1');
    expect(await read('a')).toBe('a1');
    change();
    expect(await read('a')).toBe('a2');
    expect(await read('b')).toBe('b3');
  });

  it('fetched while something changed are not used again', async () => {
    const { copies, change } = made();
    let answer: (bytes: Uint8Array) => void = () => undefined;
    const slow = copies.read('a', () => new Promise((resolve) => (answer = resolve)));
    change();
    answer(Buffer.from('before'));
    await slow;
    expect(Buffer.from(await copies.read('a', async () => Buffer.from('after'))).toString()).toBe('after');
  });

  it('are fetched once for all who ask at the same time, and errors are not kept', async () => {
    const { copies, fetched, read } = made();
    expect(await Promise.all([read('a'), read('a'), read('a')])).toEqual(['a1', 'a1', 'a1']);
    expect(fetched).toHaveLength(1);
    const fail = (): Promise<Uint8Array> => copies.read('x', () => Promise.reject(new Error('no')));
    await expect(fail()).rejects.toThrow('no');
    expect(Buffer.from(await copies.read('x', async () => Buffer.from('yes'))).toString()).toBe('yes');
  });

  it('are ready as long as they may be used', async () => {
    const { change, copies, read } = made();
    expect(copies.ready('a')).toBeUndefined();
    await read('a');
    expect(String(copies.ready('a'))).toBe('a1');
    change();
    expect(copies.ready('a')).toBeUndefined();
  });

  it('stay within their limit', async () => {
    const { fetched, read } = made(30);
    for (let i = 0; i < 20; i++) await read(`key${i}`);
    await read('key19');
    expect(fetched).toHaveLength(20);
    await read('key0');
    expect(fetched).toHaveLength(21);
  });

  it('are not kept where there is no mark', async () => {
    const copies = new ReadCopies({ markPaths: [() => join(directory, 'nowhere')] });
    let fetches = 0;
    const fetch = async (): Promise<Uint8Array> => Buffer.from(String(++fetches));
    await copies.read('a', fetch);
    await copies.read('a', fetch);
    expect(fetches).toBe(2);
  });
});
