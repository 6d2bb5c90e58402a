/** Backup and restore of volumes, which dockerd does not have. A restore that fails leaves the volume as it was. */
import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { Conflict, InvalidParameter } from '@flotilla/errors';
import type { LocalVolumes } from './localVolumes.ts';
import type { Records } from './records.ts';
import { type VolumeRecord, volumeMount } from './volume.ts';
import type { Volumes } from './volumes.ts';

/** Archives of directories. */
export interface Archiver {
  pack(directory: string, write: (chunk: Buffer) => Promise<void>, signal: AbortSignal): Promise<void>;
  unpackInto(directory: string, archive: Readable): Promise<void>;
}

export interface VolumeArchivesOptions {
  readonly records: Records;
  readonly volumes: Volumes;
  readonly local: LocalVolumes;
  readonly archiver: Archiver;
}

export class VolumeArchives {
  private readonly options: VolumeArchivesOptions;

  constructor(options: VolumeArchivesOptions) {
    this.options = options;
  }

  /** Reads it while containers may go on using it. It cannot be removed meanwhile. */
  async backup(name: string, write: (chunk: Buffer) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { volumes, archiver } = this.options;
    const user = `backup-${randomBytes(8).toString('hex')}`;
    const path = await volumes.mount({ name, user });
    try {
      await archiver.pack(path, write, signal);
    } finally {
      await volumes.release(name, user, false);
    }
  }

  /** @throws NotFound before a byte is asked for. */
  async checkBackup(name: string): Promise<void> {
    await this.options.volumes.inspect(name);
  }

  /** @throws Conflict, InvalidParameter before a byte is asked for, for a volume that could not take an archive. */
  async checkRestore(name: string, replace: boolean): Promise<void> {
    await this.options.records.fresh();
    const volume = this.options.records.volumes.get(name);
    if (volume === undefined) return;
    if (volume.users.length > 0) throw new Conflict(`restore ${name}: volume is in use - [${volume.users.join(', ')}]`);
    if (!isPlain(volume)) throw new InvalidParameter(`restore ${name}: only a local volume without options can be restored`);
    if (!replace && !(await this.options.local.isEmpty(name))) throw new Conflict(`restore ${name}: volume is not empty`);
  }

  async restore(name: string, replace: boolean, archive: Readable): Promise<void> {
    const { records, volumes, local, archiver } = this.options;
    const isNew = !records.volumes.has(name);
    await volumes.create({ Name: name });
    try {
      // Nobody can take it or remove it meanwhile.
      await records.withLease(`volume/${name}`, async () => {
        await this.checkRestore(name, replace);
        await local.replaceContent(name, (directory) => archiver.unpackInto(directory, archive));
      });
    } catch (error) {
      if (isNew) await volumes.remove(name, true);
      throw error;
    }
  }
}

function isPlain(volume: VolumeRecord): boolean {
  return volume.driver === 'local' && volumeMount(volume) === undefined;
}
