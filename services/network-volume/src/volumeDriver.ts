/** What keeps volumes: the local driver, or a plugin. */
import type { VolumeRecord, VolumeState } from './volume.ts';

export interface VolumeDriver {
  readonly name: string;
  readonly scope: 'local' | 'global';
  /** @throws InvalidParameter for options it does not have. */
  check(options: Readonly<Record<string, string>>): void;
  /** Idempotent. */
  create(name: string, options: Readonly<Record<string, string>>): Promise<void>;
  /** Not while it is mounted. */
  remove(name: string): Promise<void>;
  /** @throws NotFound when the driver does not know it. */
  state(volume: Pick<VolumeRecord, 'name'>): Promise<VolumeState>;
  /** Makes the content ready for one user; gives the path. Idempotent. */
  mount(volume: VolumeRecord, user: string): Promise<string>;
  /** Undoes it for that user. @param isLast - nobody else has it mounted. */
  unmount(volume: VolumeRecord, user: string, isLast: boolean): Promise<void>;
  /** Copies a directory's content in if the volume is empty, or the directory of it that `subpath` names. */
  populate(volume: VolumeRecord, sourceDir: string, subpath: string): Promise<boolean>;
}
