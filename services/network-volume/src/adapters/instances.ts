/**
 * Which instances of this service live on this host, told by file locks, which the kernel drops when a process dies however it dies.
 * Each has a token of four hex digits that begins the names of the namespaces it makes: those of a dead instance are nobody's.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode, tryLockFile } from '@flotilla/syscalls';

export class Instances {
  readonly token: string;
  private readonly folder: string;
  private readonly fd: number;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (;;) {
      const token = randomBytes(2).toString('hex');
      const fd = openSync(join(folder, token), 'w', 0o600);
      if (tryLockFile(fd)) {
        this.token = token;
        this.fd = fd;
        return;
      }
      closeSync(fd);
    }
  }

  /** Tokens of the others that live; files of dead ones are removed. */
  livingOthers(): Set<string> {
    const living = new Set<string>();
    for (const token of readdirSync(this.folder)) {
      if (token === this.token) continue;
      const fd = this.openThere(token);
      if (fd === undefined) continue;
      if (tryLockFile(fd)) rmSync(join(this.folder, token), { force: true });
      else living.add(token);
      closeSync(fd);
    }
    return living;
  }

  /** One that ends just now takes its file along. */
  private openThere(token: string): number | undefined {
    try {
      return openSync(join(this.folder, token), 'r+');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  close(): void {
    rmSync(join(this.folder, this.token), { force: true });
    closeSync(this.fd);
  }
}
