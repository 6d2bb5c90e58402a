/** The local driver: plain directories, and what a volume's options mount on them. */
import { errorMessage, System } from '@flotilla/errors';
import { checkVolumeOptions, type VolumeMount, type VolumeRecord, type VolumeState, volumeMount } from './volume.ts';
import type { VolumeDriver } from './volumeDriver.ts';

/** The disk's side of volumes. */
export interface VolumeFolders {
  /** The directory that holds a volume's content. */
  path(name: string): string;
  create(name: string): void;
  remove(name: string): Promise<void>;
  names(): string[];
  /** Whether the directory that holds its content is there. */
  isWhole(name: string): boolean;
  mount(name: string, mount: VolumeMount): Promise<void>;
  unmount(name: string): void;
  isMounted(name: string): boolean;
  /** Copies a directory's content in if the volume, or what `subpath` names of it, is empty. @param inPlace - it is mounted or in use, and cannot be replaced by the finished copy. */
  populate(name: string, sourceDir: string, subpath: string, inPlace: boolean): Promise<boolean>;
  sizeBytes(name: string): Promise<number>;
  isEmpty(name: string): Promise<boolean>;
  /** Puts in place of the content what `fill` makes; when it fails, the content stays. */
  replaceContent(name: string, fill: (directory: string) => Promise<void>): Promise<void>;
}

export class LocalVolumes implements VolumeDriver {
  readonly name = 'local';
  readonly scope = 'local';
  private readonly folders: VolumeFolders;

  constructor(folders: VolumeFolders) {
    this.folders = folders;
  }

  path(name: string): string {
    return this.folders.path(name);
  }

  check(options: Readonly<Record<string, string>>): void {
    checkVolumeOptions(options);
  }

  async create(name: string): Promise<void> {
    this.folders.create(name);
  }

  async remove(name: string): Promise<void> {
    if (this.folders.isMounted(name)) this.folders.unmount(name);
    await this.folders.remove(name);
  }

  async state({ name }: Pick<VolumeRecord, 'name'>): Promise<VolumeState> {
    return { mountpoint: this.folders.path(name) };
  }

  async mount(volume: VolumeRecord): Promise<string> {
    this.folders.create(volume.name);
    const wanted = volumeMount(volume);
    if (wanted !== undefined && !this.folders.isMounted(volume.name)) await this.mountNow(volume, wanted);
    return this.folders.path(volume.name);
  }

  private async mountNow(volume: VolumeRecord, wanted: VolumeMount): Promise<void> {
    try {
      await this.folders.mount(volume.name, wanted);
    } catch (error) {
      const reason = errorMessage(error);
      throw new System(`error while mounting volume '${this.folders.path(volume.name)}': failed to mount local volume: ${reason}`, {
        cause: error,
      });
    }
  }

  async unmount(volume: VolumeRecord, _user: string, isLast: boolean): Promise<void> {
    if (isLast && volumeMount(volume) !== undefined && this.folders.isMounted(volume.name)) this.folders.unmount(volume.name);
  }

  async populate(volume: VolumeRecord, sourceDir: string, subpath: string): Promise<boolean> {
    const { name } = volume;
    const wanted = volumeMount(volume);
    const alreadyMounted = this.folders.isMounted(name);
    if (wanted !== undefined && !alreadyMounted) await this.mountNow(volume, wanted);
    try {
      return await this.folders.populate(name, sourceDir, subpath, wanted !== undefined || volume.mounts.length > 0);
    } finally {
      // Content copied into a tmpfs would go with the mount: it stays for the start that follows.
      if (wanted !== undefined && !alreadyMounted && wanted.type !== 'tmpfs' && volume.mounts.length === 0) this.folders.unmount(name);
    }
  }

  /** A volume with something else mounted on it takes no room of ours. */
  async sizeBytes(volume: VolumeRecord): Promise<number> {
    return volumeMount(volume) === undefined ? this.folders.sizeBytes(volume.name) : -1;
  }

  isEmpty(name: string): Promise<boolean> {
    return this.folders.isEmpty(name);
  }

  replaceContent(name: string, fill: (directory: string) => Promise<void>): Promise<void> {
    return this.folders.replaceContent(name, fill);
  }

  /** Volumes of which a crash has left the folder otherwise than the record has it. Folders without a record are half removed or half made, but where records were lost. */
  unlike(known: ReadonlyMap<string, VolumeRecord>, recordsAreLost: boolean): string[] {
    const strangers = recordsAreLost ? [] : this.folders.names().filter((name) => !known.has(name));
    const broken = [...known.values()].filter((volume) => !this.folders.isWhole(volume.name) || this.isLeftMounted(volume));
    return [...strangers, ...broken.map(({ name }) => name)];
  }

  /** @param volume - undefined when there is no such volume. */
  async putRight(name: string, volume: VolumeRecord | undefined): Promise<void> {
    if (volume === undefined) {
      await this.remove(name);
      return;
    }
    this.folders.create(name);
    if (this.isLeftMounted(volume)) this.folders.unmount(name);
  }

  private isLeftMounted(volume: VolumeRecord): boolean {
    return volumeMount(volume) !== undefined && volume.mounts.length === 0 && this.folders.isMounted(volume.name);
  }
}
