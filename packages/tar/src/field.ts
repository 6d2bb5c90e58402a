/** The fields of a tar's header blocks. */

/** A tar that breaks its format, or a limit. */
export class TarError extends Error {
  override readonly name = 'TarError';
}

export const blockBytes = 512;

/** Reads an octal number, or GNU's base-256 form. */
export function parseNumber(block: Buffer, offset: number, length: number): number {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) {
    // Base 256, big endian, two's complement in the low bits.
    let value = first & 0x40 ? BigInt(first | ~0xff) : BigInt(first & 0x7f);
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[offset + i] ?? 0);
    if (value < BigInt(Number.MIN_SAFE_INTEGER) || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new TarError('invalid tar header');
    return Number(value);
  }
  const text = cString(block, offset, length).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError('invalid tar header');
  return Number.parseInt(text, 8);
}

/** A text of at most `length` bytes, ended by NUL. */
export function cString(block: Buffer, offset: number, length: number): string {
  const end = block.indexOf(0, offset);
  return block.toString('utf8', offset, end === -1 || end > offset + length ? offset + length : end);
}
