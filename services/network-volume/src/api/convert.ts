/** Documents of the Engine API ⇄ the bytes they travel as. */
import { DecodeError, decodeDocument, type Shape } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

export function toJsonBytes(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

/** @throws InvalidParameter in Go's words for a document that is not what it should be. */
export function fromJsonBytes<T extends object>(shape: Shape<T>, bytes: Uint8Array): T {
  try {
    const text = Buffer.from(bytes).toString('utf8');
    return decodeDocument(shape, text === '' ? '{}' : text) ?? ({} as T);
  } catch (error) {
    if (error instanceof DecodeError) throw new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error });
    throw error;
  }
}
