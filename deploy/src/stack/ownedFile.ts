/** Files that root writes into the directory of a service's user. */
import { closeSync, fchownSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Account } from './accounts.ts';

/** Makes a file anew that its owner may read and nobody else. What the directory's owner puts in the way, a link say, is never written through. */
export function writeOwnedFile(path: string, content: string | Uint8Array, { uid, gid }: Pick<Account, 'uid' | 'gid'>): void {
  const made = `${path}.new`;
  rmSync(made, { force: true });
  const fd = openSync(made, 'wx', 0o400);
  try {
    writeFileSync(fd, content);
    fchownSync(fd, uid, gid);
  } finally {
    closeSync(fd);
  }
  renameSync(made, path);
}
