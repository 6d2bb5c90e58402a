/**
 * What a power cut may spoil. Content appears by rename as soon as it is complete, and reaches the disk some seconds later: file systems may keep the
 * name and lose the bytes. So a note is made of it first, and taken away when the disk has been told to write all it was given; nobody waits
 * for that. Notes that another boot has left name what `disk/afterPowerCut.ts` looks at before it is used.
 *
 * A note is an empty file, `<boot id>.<layer|blob>.<algorithm>-<hex>.<random>`: its name is all of it, for bytes may be lost.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '@flotilla/oci';
import { syncFileSystem } from '@flotilla/syscalls';

export type UnsyncedKind = 'layer' | 'blob';

export interface Suspect {
  readonly note: string;
  readonly kind: UnsyncedKind;
  readonly digest: Digest;
}

/** The layers of a pull share one writing of the disk. */
const delayMs = 2_000;

export class Unsynced {
  private readonly directory: string;
  private readonly onError: (error: unknown) => void;
  private readonly boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  private timer: NodeJS.Timeout | undefined;
  private writing: Promise<void> = Promise.resolve();

  constructor(root: string, onError: (error: unknown) => void) {
    this.directory = join(root, 'unsynced');
    this.onError = onError;
    mkdirSync(this.directory, { recursive: true, mode: 0o711 });
    // An instance that was killed has left these; what it wrote is still on its way.
    if (this.own().length > 0) this.schedule();
  }

  /** To be called for content that is complete, before it appears under its name. */
  note(kind: UnsyncedKind, digest: Digest): void {
    const name = `${this.boot}.${kind}.${digest.replace(':', '-')}.${randomBytes(6).toString('hex')}`;
    writeFileSync(join(this.directory, name), '');
    this.schedule();
  }

  private own(): string[] {
    return readdirSync(this.directory).filter((name) => name.startsWith(`${this.boot}.`));
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => void this.write(), delayMs).unref();
  }

  private async write(): Promise<void> {
    this.timer = undefined;
    this.writing = this.sync().catch((error: unknown) => {
      this.onError(error);
      this.schedule();
    });
    await this.writing;
  }

  /** Writes what is still to be written: nobody else would take this instance's notes away before the next one starts. */
  async close(): Promise<void> {
    await this.writing;
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    await this.write();
    clearTimeout(this.timer);
  }

  private async sync(): Promise<void> {
    const notes = this.own();
    await syncFileSystem(this.directory);
    this.forget(notes);
  }

  /** What earlier boots had not written yet. */
  suspects(): Suspect[] {
    return readdirSync(this.directory).flatMap((note) => {
      const [boot, kind, digest = ''] = note.split('.');
      if (boot === this.boot || (kind !== 'layer' && kind !== 'blob')) return [];
      return [{ note, kind, digest: digest.replace('-', ':') as Digest }];
    });
  }

  forget(notes: readonly string[]): void {
    for (const note of notes) rmSync(join(this.directory, note), { force: true });
  }
}
