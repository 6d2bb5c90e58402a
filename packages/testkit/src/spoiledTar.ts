/** Archives as bad disks and attackers leave them: real tars, changed at random but the same for the same seed. */
import { readdirSync } from 'node:fs';
import { type LayerEntry, randomBytesOf } from './layers.ts';

const blockBytes = 512;

/** An entry of each kind. */
export const everyKind: readonly LayerEntry[] = [
  { path: 'd/' },
  { path: 'd/a', content: 'content' },
  { path: 'd/b', type: 'link', target: 'd/a' },
  { path: 'link', target: 'd' },
  { path: 'link/through', content: 'x' },
  { path: 'self', target: 'self' },
  { path: 'fifo', type: 'fifo' },
  { path: 'null', type: 'character-device', device: { major: 1, minor: 3 } },
  { path: 'n'.repeat(255), content: 'long' },
  { path: `${'deep/'.repeat(60)}file`, content: 'deep' },
  { path: 'ünïcode-\u{1f600}', content: 'u' },
  { path: 'attributes', content: 'x', xattrs: { 'user.a': 'b' } },
  { path: 'set', content: 'x', mode: 0o6755, uid: 12, gid: 34 },
  { path: 'd/.wh.gone', content: '' },
  { path: 'o/' },
  { path: 'o/.wh..wh..opq', content: '' },
  { path: 'large', content: randomBytesOf(100_000) },
];

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 0 ≤ it < 1: a counter by the golden ratio, its bits mixed as MurmurHash3 mixes its last. */
  next(): number {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    let x = this.state;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 0x1_0000_0000;
  }

  /** A whole number below `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.below(from.length)] ?? from[0];
  }
}

/** The name that an archive tries to write outside of where it belongs. */
export const escapeName = 'evil-flotilla';

const names: readonly [string, ...string[]] = [
  `../../../../../../../../../../${escapeName}`,
  `/${escapeName}`,
  `a/../../${escapeName}`,
  `link/${escapeName}`,
  `./../${escapeName}`,
  '..',
  '.',
  '/',
  '',
  'a/b/c/d/e/f',
  'manifest.json',
  'index.json',
  'Dockerfile',
  '.dockerignore',
  '.wh.',
  '.wh...',
  '.wh..wh..opq',
  'd/.wh.a',
  'n'.repeat(99),
  'ü\u{1f600}\u0301\u202e',
  '\u0001\n\t',
  '\ufffd',
];
const targets: readonly [string, ...string[]] = [
  '/',
  '..',
  '/etc/passwd',
  `../../../../../../../../../${escapeName}`,
  'a',
  'link',
  'self',
  '',
  'x'.repeat(100),
];
/** What stands in a number's field of twelve bytes. */
const numbers: readonly [Buffer, ...Buffer[]] = [
  Buffer.from('00000000000\0'),
  Buffer.from('00000000001\0'),
  Buffer.from('77777777777\0'),
  Buffer.from('            '),
  Buffer.from('99999999999\0'),
  Buffer.from('-0000000001\0'),
  Buffer.alloc(12),
  Buffer.alloc(12, 0xff),
  Buffer.from([0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
  Buffer.from([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]),
];
const paxRecords: readonly [string, ...string[]] = [
  `path=../../../../../../../../${escapeName}`,
  'path=',
  `path=${'p/'.repeat(3000)}`,
  `path=${'n'.repeat(255)}`,
  `path=${'n'.repeat(256)}`,
  'path=a\0b',
  'linkpath=/etc/passwd',
  'size=-1',
  'size=9007199254740993',
  'size=1099511627776',
  'size=x',
  'mtime=99999999999999999999',
  'mtime=-1.5',
  'uid=4294967295',
  'gid=-1',
  'SCHILY.xattr.user.a=b',
  'SCHILY.xattr.trusted.overlay.opaque=y',
  'SCHILY.xattr.trusted.overlay.redirect=/etc',
  `SCHILY.xattr.user.${'k'.repeat(300)}=v`,
  `SCHILY.xattr.user.big=${'v'.repeat(70_000)}`,
  'GNU.sparse.major=1',
  'GNU.sparse.minor=0',
  'GNU.sparse.map=0,9007199254740991',
  'GNU.sparse.map=0,1,0,1',
  'GNU.sparse.size=1099511627776',
  'GNU.sparse.realsize=-1',
  'GNU.sparse.name=../x',
];

/** Names that spoiled archives hold, where they stand in a folder that none of them may reach; others' doings are not seen. */
export function strayNames(folder: string): string[] {
  const known = new Set([...names, ...everyKind.map(({ path }) => path)].flatMap((name) => name.split('/')));
  return readdirSync(folder)
    .filter((name) => known.has(name))
    .sort();
}

/** @returns the tar with one to four changes in it. */
export function spoiledTar(tar: Buffer, random: Random): Buffer {
  let spoiled = Buffer.from(tar);
  for (let changes = 1 + random.below(4); changes > 0; changes--) spoiled = changed(spoiled, random);
  return spoiled;
}

function changed(tar: Buffer, random: Random): Buffer<ArrayBuffer> {
  const headers = headersOf(tar);
  const at = headers[random.below(headers.length)] ?? 0;
  const next = headers[headers.indexOf(at) + 1] ?? tar.length;
  const whole = tar.subarray(at, next);
  switch (random.below(12)) {
    case 0:
      return flipped(tar, random);
    case 1:
      return Buffer.from(tar.subarray(0, random.below(tar.length)));
    case 2:
      return resealed(tar, at, random, (block) => random.pick(numbers).copy(block, random.pick([124, 124, 124, 136])));
    case 3:
      return resealed(tar, at, random, (block) => random.pick(numbers).copy(block, random.pick([100, 108, 116, 329, 337]), 0, 8));
    case 4:
      return resealed(tar, at, random, (block) => put(block, 0, 100, random.pick(names)));
    case 5:
      return resealed(tar, at, random, (block) => {
        block[156] = random.pick([...Buffer.from('01234567LKxgXSDMNV\0')] as [number, ...number[]]);
        put(block, 157, 100, random.pick(targets));
      });
    case 6:
      return resealed(tar, at, random, (block) => put(block, random.pick([157, 345]), random.pick([100, 155]), random.pick(targets)));
    case 7:
      // Twice, the second time somewhere else.
      return spliced(tar, headers[random.below(headers.length)] ?? 0, 0, whole);
    case 8:
      return spliced(tar, at, whole.length, Buffer.alloc(0));
    case 9:
      return spliced(tar, at, 0, paxHeader(random));
    case 10:
      return spliced(tar, at, 0, random.pick([Buffer.alloc(blockBytes), Buffer.alloc(blockBytes, 0xa5), Buffer.alloc(100)]));
    default:
      return spliced(
        tar,
        at,
        0,
        extension(random.pick(['L', 'K']), Buffer.from(`${random.pick(names)}${'/y'.repeat(random.pick([0, 60, 3000]))}\0`)),
      );
  }
}

/** Where the entries of a well-formed beginning start. */
function headersOf(tar: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + blockBytes <= tar.length && tar[at] !== 0; ) {
    found.push(at);
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 136), 8);
    if (!(size >= 0)) break;
    at += blockBytes * (1 + Math.ceil(size / blockBytes));
  }
  return found;
}

function flipped(tar: Buffer, random: Random): Buffer<ArrayBuffer> {
  const copy = Buffer.from(tar);
  for (let count = 1 + random.below(8); count > 0 && copy.length > 0; count--) {
    const at = random.below(copy.length);
    copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
  }
  return copy;
}

/** Changes a header; most times its checksum fits afterwards. */
function resealed(tar: Buffer, at: number, random: Random, change: (block: Buffer) => unknown): Buffer<ArrayBuffer> {
  const copy = Buffer.from(tar);
  const block = copy.subarray(at, at + blockBytes);
  if (block.length < blockBytes) return copy;
  change(block);
  if (random.below(10) > 0) seal(block);
  return copy;
}

function seal(block: Buffer): void {
  block.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

function put(block: Buffer, at: number, length: number, text: string): void {
  block.fill(0, at, at + length);
  block.write(text, at, length, 'utf8');
}

function spliced(tar: Buffer, at: number, removed: number, added: Buffer): Buffer<ArrayBuffer> {
  return Buffer.concat([tar.subarray(0, at), added, tar.subarray(at + removed)]);
}

function paxHeader(random: Random): Buffer {
  const records = Array.from({ length: 1 + random.below(3) }, () => {
    const record = random.pick(paxRecords);
    const rest = Buffer.byteLength(record) + 2;
    let length = rest + String(rest).length;
    if (String(length).length + rest !== length) length = String(length).length + rest;
    // Now and then the length lies.
    return `${random.below(20) === 0 ? random.pick([0, 3, 99_999_999, -1]) : length} ${record}\n`;
  });
  return extension(random.pick(['x', 'x', 'g']), Buffer.from(records.join('')));
}

/** A header of its own kind before the entry that it is about. */
function extension(flag: string, content: Buffer): Buffer {
  const block = Buffer.alloc(blockBytes);
  put(block, 0, 100, '././@LongLink');
  block.write('0000644\0' + '0000000\0' + '0000000\0', 100, 'latin1');
  block.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  block.write('00000000000\0', 136, 'latin1');
  block.write(flag, 156, 'latin1');
  block.write('ustar\0' + '00', 257, 'latin1');
  seal(block);
  return Buffer.concat([block, content, Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes)]);
}

const values: readonly [unknown, ...unknown[]] = [
  null,
  true,
  0,
  -1,
  1e308,
  '',
  'x',
  `../../../../${escapeName}`,
  'sha256:',
  `sha256:${'0'.repeat(64)}`,
  [],
  {},
  [null],
  [[]],
  { '': '' },
  { __proto__: null, constructor: 'x', toString: 1 },
  'y'.repeat(100_000),
];

/** A JSON document with one to three of its parts replaced, repeated or left out; now and then its text is broken. */
export function spoiledJson(text: string, random: Random): string {
  let document: unknown = JSON.parse(text);
  for (let changes = 1 + random.below(3); changes > 0; changes--) document = replaced(document, random);
  const written = JSON.stringify(document);
  switch (random.below(12)) {
    case 0:
      return written.slice(0, random.below(written.length));
    case 1:
      return '['.repeat(100_000) + written;
    case 2:
      return `${written}${written}`;
    default:
      return written;
  }
}

function replaced(value: unknown, random: Random): unknown {
  const isHere = typeof value !== 'object' || value === null || random.below(4) === 0;
  if (isHere) return random.pick(values);
  if (Array.isArray(value)) {
    if (value.length === 0) return [random.pick(values)];
    const at = random.below(value.length);
    const change = random.below(4);
    if (change === 0) return value.toSpliced(at, 1);
    if (change === 1) return [...value, value[at]];
    return value.with(at, replaced(value[at], random));
  }
  const keys = Object.keys(value);
  const key = keys[random.below(keys.length)];
  if (key === undefined) return { x: random.pick(values) };
  const { [key]: one, ...others } = value as Record<string, unknown>;
  return random.below(5) === 0 ? others : { ...others, [key]: replaced(one, random) };
}
