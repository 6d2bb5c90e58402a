/** Layers of test images: entries in, a deterministic tar out (fixed times, given order), compressed as asked. */
import { createCipheriv, createHash } from 'node:crypto';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';

export interface LayerEntry {
  /** As it stands in the tar, so a bad one may be given on purpose. */
  readonly path: string;
  /** Default: directory when the path ends in `/`, symlink when `target` is given, else file. */
  readonly type?: 'file' | 'directory' | 'symlink' | 'link' | 'character-device' | 'block-device' | 'fifo';
  readonly content?: string | Buffer;
  /** Of a symlink or hard link. */
  readonly target?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly device?: { readonly major: number; readonly minor: number };
  /** Extended attributes, as GNU tar writes them. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export type Compression = 'gzip' | 'zstd' | 'none';

export interface Layer {
  /** `sha256:…` of the uncompressed tar. */
  readonly diffId: string;
  /** `sha256:…` of {@link bytes}. */
  readonly digest: string;
  readonly compression: Compression;
  readonly bytes: Buffer;
}

/** The entry that hides `path` of a lower layer. */
export function whiteout(path: string): LayerEntry {
  const at = path.lastIndexOf('/') + 1;
  return { path: `${path.slice(0, at)}.wh.${path.slice(at)}`, content: '' };
}

/** The entry that hides all that lower layers have in a directory. */
export function opaque(directory: string): LayerEntry {
  return { path: `${directory}/.wh..wh..opq`, content: '' };
}

/** Bytes that do not compress, the same for the same seed. */
export function randomBytesOf(sizeBytes: number, seed = 'seed'): Buffer {
  const key = createHash('md5').update(seed).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

export function sha256(bytes: string | Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Makes a layer. */
export async function buildLayer(entries: readonly LayerEntry[], compression: Compression = 'gzip'): Promise<Layer> {
  const tar = await buildTar(entries);
  const bytes = compress(tar, compression);
  return { diffId: sha256(tar), digest: sha256(bytes), compression, bytes };
}

/** A tar of the entries, times at zero, owner root unless told. */
export async function buildTar(entries: readonly LayerEntry[]): Promise<Buffer> {
  const tar = pack();
  const collected = (async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of tar) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  })();
  for (const entry of entries) {
    const type = entry.type ?? (entry.path.endsWith('/') ? 'directory' : entry.target !== undefined ? 'symlink' : 'file');
    const content = Buffer.from(entry.content ?? '');
    tar.entry(
      {
        name: entry.path,
        type,
        mode: entry.mode ?? (type === 'directory' ? 0o755 : type === 'symlink' ? 0o777 : 0o644),
        uid: entry.uid ?? 0,
        gid: entry.gid ?? 0,
        mtime: new Date(0),
        size: type === 'file' ? content.length : 0,
        ...(entry.target !== undefined && { linkname: entry.target }),
        ...(entry.device && { devmajor: entry.device.major, devminor: entry.device.minor }),
        ...(entry.xattrs && {
          pax: Object.fromEntries(Object.entries(entry.xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value])),
        }),
      },
      type === 'file' ? content : Buffer.alloc(0),
    );
  }
  tar.finalize();
  return collected;
}

function compress(tar: Buffer, compression: Compression): Buffer {
  switch (compression) {
    case 'none':
      return tar;
    case 'gzip':
      return gzipSync(tar, { level: 1 });
    case 'zstd':
      return zstdCompressSync(tar, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  }
}
