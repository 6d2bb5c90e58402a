/** Digests: `algorithm:hex` of some bytes, checked by shape and by content. */
import { createHash, type Hash } from 'node:crypto';
import { InvalidName } from './errors.ts';

/** A checked digest, `sha256:…` or `sha512:…` in lower-case hex. */
export type Digest = `sha256:${string}` | `sha512:${string}`;

const digestShape = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;
const hexLengths: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

/** @throws InvalidName in the words of opencontainers/go-digest. */
export function parseDigest(text: string): Digest {
  if (text.length > 256 || !digestShape.test(text)) throw new InvalidName('invalid checksum digest format');
  const colon = text.indexOf(':');
  const length = hexLengths[text.slice(0, colon)];
  if (length === undefined || text.startsWith('sha384:')) throw new InvalidName('unsupported digest algorithm');
  const hex = text.slice(colon + 1);
  if (hex.length !== length) throw new InvalidName('invalid checksum digest length');
  if (!/^[a-f0-9]+$/.test(hex)) throw new InvalidName('invalid checksum digest format');
  return text as Digest;
}

export function isDigest(text: string): text is Digest {
  try {
    parseDigest(text);
    return true;
  } catch {
    return false;
  }
}

export function digestAlgorithm(digest: Digest): 'sha256' | 'sha512' {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

/** The hex part. */
export function digestHex(digest: Digest): string {
  return digest.slice(7);
}

/** The first 12 hex digits, as dockerd shows ids to people. */
export function shortDigest(digest: string): string {
  return digest.slice(digest.indexOf(':') + 1).slice(0, 12);
}

/** The sha256 digest of bytes at hand. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Computes a digest as bytes pass, and tells whether it came out as expected. */
export class DigestVerifier {
  readonly expected: Digest | undefined;
  private readonly hash: Hash;
  private readonly algorithm: 'sha256' | 'sha512';
  private count = 0;
  private result: Digest | undefined;

  constructor(expected?: Digest) {
    this.expected = expected;
    this.algorithm = expected === undefined ? 'sha256' : digestAlgorithm(expected);
    this.hash = createHash(this.algorithm);
  }

  /** Bytes seen so far. */
  get sizeBytes(): number {
    return this.count;
  }

  update(chunk: Uint8Array): void {
    this.hash.update(chunk);
    this.count += chunk.byteLength;
  }

  /** The digest of everything seen; nothing may be added afterwards. */
  digest(): Digest {
    this.result ??= `${this.algorithm}:${this.hash.digest('hex')}`;
    return this.result;
  }

  verified(): boolean {
    return this.expected === undefined || this.digest() === this.expected;
  }
}
