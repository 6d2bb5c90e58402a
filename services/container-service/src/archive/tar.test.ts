import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { encodeHeader, paddingBytes, type TarHeader } from './tarFormat.ts';
import { readTar } from './tarReader.ts';

const plain: TarHeader = { name: 'file', type: 'file', mode: 0o644, uid: 1, gid: 2, size: 0, mtime: 1_700_000_000 };

function archive(...entries: { header: TarHeader; data?: Buffer }[]): Buffer {
  const blocks = entries.flatMap(({ header, data = Buffer.alloc(0) }) => [
    encodeHeader({ ...header, size: data.length }),
    data,
    Buffer.alloc(paddingBytes(data.length)),
  ]);
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

async function entries(bytes: Buffer, pieceBytes = bytes.length): Promise<{ header: TarHeader; data: Buffer }[]> {
  async function* stream(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const found: { header: TarHeader; data: Buffer }[] = [];
  for await (const entry of readTar(stream())) {
    const pieces: Buffer[] = [];
    for await (const piece of entry.data()) pieces.push(piece);
    found.push({ header: entry.header, data: Buffer.concat(pieces) });
  }
  return found;
}

describe('tar', () => {
  const cases: [string, TarHeader][] = [
    ['a file', plain],
    ['a long name', { ...plain, name: `${'d/'.repeat(120)}x` }],
    ['a name that is not ASCII', { ...plain, name: 'größe/文件' }],
    ['a directory', { ...plain, name: 'dir/', type: 'directory' }],
    ['a symbolic link', { ...plain, type: 'symlink', linkName: `../${'x'.repeat(150)}` }],
    ['a hard link', { ...plain, type: 'hardlink', linkName: 'other' }],
    ['a device', { ...plain, type: 'character', major: 1, minor: 3 }],
    ['large owners', { ...plain, uid: 2 ** 31, gid: 2 ** 31 + 1 }],
    ['a time before 1970', { ...plain, mtime: -5 }],
    ['special bits', { ...plain, mode: 0o7755 }],
    ['binary attributes', { ...plain, xattrs: new Map([['security.capability', Buffer.from([1, 0, 0x0a, 0xff, 0])]]) }],
  ];
  it.each(cases)('reads what it writes: %s', async (_, header) => {
    const [entry] = await entries(archive({ header }));
    expect(entry?.header).toMatchObject(header);
  });

  it.each([1, 7, 511, 512, 4096])('reads data that comes in pieces of %i bytes', async (pieceBytes) => {
    const data = Buffer.from('0123456789'.repeat(130));
    const found = await entries(archive({ header: plain, data }, { header: { ...plain, name: 'next' } }), pieceBytes);
    expect(found.map(({ header }) => header.name)).toEqual(['file', 'next']);
    expect(found[0]?.data.equals(data)).toBe(true);
  });

  it('goes on to the next entry when data is left unread', async () => {
    const names: string[] = [];
    const bytes = archive({ header: plain, data: Buffer.alloc(2000) }, { header: { ...plain, name: 'next' } });
    async function* stream(): AsyncGenerator<Buffer> {
      yield bytes;
    }
    for await (const entry of readTar(stream())) names.push(entry.header.name);
    expect(names).toEqual(['file', 'next']);
  });

  it('is read by GNU tar', () => {
    const bytes = archive({ header: { ...plain, name: `${'long/'.repeat(40)}file` }, data: Buffer.from('hello') });
    const { stdout } = spawnSync('tar', ['-tvf', '-'], { input: bytes, encoding: 'utf8' });
    expect(stdout).toMatch(/^-rw-r--r-- 1\/2 +5 .*long\/file$/m);
  });

  it.each(['gnu', 'pax', 'ustar', 'v7'])('reads GNU tar’s %s format', async (format) => {
    const long = format === 'gnu' || format === 'pax' ? 'x'.repeat(120) : 'x';
    const script = `d=$(mktemp -d) && cd $d && mkdir dir && echo content >dir/${long} && ln -s target dir/link && ln dir/${long} dir/hard && tar --format=${format} -cf - dir; rm -rf $d`;
    const { stdout } = spawnSync('sh', ['-c', script], { maxBuffer: 1 << 20 });
    const found = await entries(stdout);
    const types = new Map(found.map(({ header }) => [header.name, header.type]));
    expect(types.get('dir/')).toBe('directory');
    expect(types.get('dir/link')).toBe('symlink');
    expect([types.get(`dir/${long}`), types.get('dir/hard')].sort()).toEqual(['file', 'hardlink']);
    expect(found.find(({ header }) => header.type === 'file')?.data.toString()).toBe('content\n');
  });

  it.each([
    ['no tar at all', Buffer.alloc(512, 'x'), 'invalid tar header'],
    ['half a header', archive({ header: plain }).subarray(0, 300), 'unexpected EOF'],
    ['half the data', archive({ header: plain, data: Buffer.alloc(5000) }).subarray(0, 2000), 'unexpected EOF'],
  ])('refuses %s', async (_, bytes, message) => {
    await expect(entries(bytes)).rejects.toThrow(message);
  });

  it('refuses a pax record that lies about its length', async () => {
    const bytes = archive({ header: { ...plain, name: 'x'.repeat(200) } });
    bytes.write('99999', 512, 'latin1');
    await expect(entries(bytes)).rejects.toThrow('invalid tar header');
  });
});
