/** Identifiers as Docker's objects have them. */
import { randomBytes } from 'node:crypto';

/** 64 hexadecimal digits. One whose first twelve are all decimal could be taken for a number, and as a hostname is looked up nowhere: Docker makes none. */
export function randomId(bytes: (size: number) => Buffer = randomBytes): string {
  for (;;) {
    const id = bytes(32).toString('hex');
    if (!/^\d{12}/.test(id)) return id;
  }
}

/** The 12 digits that people see, and a container's hostname where none is asked for. */
export function shortId(id: string): string {
  return id.slice(0, 12);
}
