/** Volumes: named directories, who holds them, what is mounted on them. */
import type { AcquireVolumeRequest, ListVolumesRequest, MountVolumeRequest } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import type { Volume, VolumeCreateRequest } from '@flotilla/engine-api';
import { Conflict, errorMessage, InvalidParameter, isNotFound, NotFound, System } from '@flotilla/errors';
import { anyOf, booleanFilter, checkFilters, type Filters, filterValues, matchesLabels, matchesPruneLabels } from './filters.ts';
import { randomId } from './ids.ts';
import { event, type Records } from './records.ts';
import {
  anonymousLabel,
  checkVolumeName,
  checkVolumeOptions,
  type VolumeMount,
  type VolumeRecord,
  volumeDocument,
  volumeMount,
} from './volume.ts';

/** The disk's side of volumes. */
export interface VolumeFolders {
  /** The directory that holds a volume's content. */
  path(name: string): string;
  create(name: string): void;
  remove(name: string): Promise<void>;
  names(): string[];
  mount(name: string, mount: VolumeMount): Promise<void>;
  unmount(name: string): void;
  isMounted(name: string): boolean;
  /** Copies a directory's content in if the volume is empty. */
  populate(name: string, sourceDir: string, inPlace: boolean): Promise<boolean>;
  sizeBytes(name: string): Promise<number>;
}

const localDriver = 'local';

export class Volumes {
  private readonly records: Records;
  private readonly folders: VolumeFolders;

  constructor(records: Records, folders: VolumeFolders) {
    this.records = records;
    this.folders = folders;
  }

  /** @throws NotFound in dockerd's words. */
  private require(name: string): VolumeRecord {
    const found = this.records.volumes.get(name);
    if (found === undefined) throw new NotFound(`get ${name}: no such volume`);
    return found;
  }

  private document(volume: VolumeRecord, sizeBytes?: number): Volume {
    return volumeDocument(volume, this.folders.path(volume.name), sizeBytes === undefined ? undefined : { sizeBytes });
  }

  /** Creates a volume, or gives the one that is there when nothing contradicts. */
  async create(request: VolumeCreateRequest): Promise<Volume> {
    const { volume } = await this.ensure({
      name: request.Name ?? '',
      driver: request.Driver ?? '',
      options: request.DriverOpts ?? {},
      labels: request.Labels ?? {},
    });
    return this.document(volume);
  }

  private async ensure(
    wish: { name: string; driver: string; options: Record<string, string>; labels: Record<string, string> },
    user?: string,
  ): Promise<{ volume: VolumeRecord; created: boolean }> {
    const driver = wish.driver || localDriver;
    if (driver !== localDriver) {
      throw new NotFound(`error looking up volume plugin ${driver}: plugin "${driver}" not found`);
    }
    const anonymous = wish.name === '';
    const name = anonymous ? randomId() : wish.name;
    checkVolumeName(name);
    checkVolumeOptions(wish.options);
    return this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const existing = this.records.volumes.get(name);
      if (existing !== undefined) {
        if (Object.keys(wish.options).length > 0 && !sameOptions(existing.options, wish.options)) {
          throw new Conflict(`create ${name}: conflict: volume already exists with different options`);
        }
        return { volume: await this.withUser(existing, user), created: false };
      }
      const volume: VolumeRecord = {
        name,
        driver,
        options: wish.options,
        labels: anonymous ? { ...wish.labels, [anonymousLabel]: '' } : wish.labels,
        createdAt: `${new Date().toISOString().slice(0, 19)}Z`,
        anonymous,
        users: user === undefined ? [] : [user],
        mounts: [],
      };
      this.folders.create(name);
      await this.records.commit({
        puts: [this.records.volumes.put(name, volume, { create: true })],
        events: [event('volume', 'create', name, { driver })],
      });
      return { volume, created: true };
    });
  }

  private async withUser(volume: VolumeRecord, user: string | undefined): Promise<VolumeRecord> {
    if (user === undefined || volume.users.includes(user)) return volume;
    return this.save({ ...volume, users: [...volume.users, user] });
  }

  private async save(volume: VolumeRecord, ...events: ReturnType<typeof event>[]): Promise<VolumeRecord> {
    await this.records.commit({ puts: [this.records.volumes.put(volume.name, volume)], events });
    return volume;
  }

  inspect(name: string): Volume {
    return this.document(this.require(name));
  }

  async list(request: ListVolumesRequest): Promise<Volume[]> {
    const { filters } = request;
    checkFilters(filters, ['dangling', 'driver', 'label', 'name']);
    const dangling = booleanFilter(filters, 'dangling');
    const found = [...this.records.volumes.values()]
      .filter(
        (volume) =>
          anyOf(filters, 'name', (value) => volume.name.includes(value)) &&
          anyOf(filters, 'driver', (value) => volume.driver === value) &&
          matchesLabels(volume.labels, filterValues(filters, 'label')) &&
          (dangling === undefined || dangling === (volume.users.length === 0)),
      )
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    if (!request.usage) return found.map((volume) => this.document(volume));
    const documents: Volume[] = [];
    for (const volume of found) documents.push(this.document(volume, await this.sizeOf(volume)));
    return documents;
  }

  /** A volume with something else mounted on it takes no room of ours. */
  private async sizeOf(volume: VolumeRecord): Promise<number> {
    return volumeMount(volume) === undefined ? this.folders.sizeBytes(volume.name) : -1;
  }

  /** @throws Conflict while a container holds it, in dockerd's words. */
  async remove(name: string, force: boolean): Promise<void> {
    try {
      await this.records.withLease(`volume/${name}`, async () => {
        await this.records.fresh();
        await this.delete(this.require(name));
      });
    } catch (error) {
      if (!(force && isNotFound(error))) throw error;
    }
  }

  private async delete(volume: VolumeRecord): Promise<void> {
    const { name, users } = volume;
    if (users.length > 0) throw new Conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
    if (this.folders.isMounted(name)) this.folders.unmount(name);
    await this.records.commit({
      deletes: [this.records.volumes.delete(name)],
      events: [event('volume', 'destroy', name, { driver: volume.driver })],
    });
    await this.folders.remove(name);
  }

  /** Removes volumes nobody holds: anonymous ones, with `all` the named ones too. */
  async prune(filters: Filters): Promise<{ names: string[]; spaceReclaimed: bigint }> {
    checkFilters(filters, ['all', 'label', 'label!']);
    const all = booleanFilter(filters, 'all') ?? false;
    const names: string[] = [];
    let spaceReclaimed = 0n;
    for (const volume of [...this.records.volumes.values()]) {
      if (volume.users.length > 0 || Object.keys(volume.options).length > 0) continue;
      if ((!all && !volume.anonymous) || !matchesPruneLabels(volume.labels, filters)) continue;
      const size = await this.sizeOf(volume);
      try {
        await this.remove(volume.name, false);
      } catch {
        // Taken by a container meanwhile: then it stays.
        continue;
      }
      names.push(volume.name);
      spaceReclaimed += BigInt(Math.max(0, size));
    }
    await this.records.commit({ events: [event('volume', 'prune', '', { reclaimed: String(spaceReclaimed) })] });
    return { names, spaceReclaimed };
  }

  /** Makes the volume if need be and holds it for a container. */
  async acquire(request: AcquireVolumeRequest): Promise<{ name: string; driver: string; mountpoint: string; created: boolean }> {
    if (request.user === '') throw new InvalidParameter('a volume is held by a container: its id is missing');
    const wish = { name: request.name, driver: request.driver, options: request.driverOptions, labels: request.labels };
    const { volume, created } = await this.ensure(wish, request.user);
    return { name: volume.name, driver: volume.driver, mountpoint: this.folders.path(volume.name), created };
  }

  async release(name: string, user: string, removeAnonymous: boolean): Promise<void> {
    await this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const volume = this.records.volumes.get(name);
      if (volume === undefined) return;
      const left = await this.forgetUser(volume, user);
      if (removeAnonymous && left.anonymous && left.users.length === 0) await this.delete(left);
    });
  }

  private async forgetUser(volume: VolumeRecord, user: string): Promise<VolumeRecord> {
    const unmounted = volume.mounts.includes(user) ? await this.forgetMount(volume, user) : volume;
    if (!unmounted.users.includes(user)) return unmounted;
    return this.save({ ...unmounted, users: unmounted.users.filter((one) => one !== user) });
  }

  /** Makes the directory ready to be bound into a container. */
  async mount(request: Pick<MountVolumeRequest, 'name' | 'user'> & Partial<MountVolumeRequest>): Promise<string> {
    const { name, user } = request;
    return this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const volume = this.require(name);
      this.folders.create(name);
      const wanted = volumeMount(volume);
      if (wanted !== undefined && !this.folders.isMounted(name)) await this.mountNow(volume, wanted);
      if (volume.mounts.includes(user)) return this.folders.path(name);
      const held = volume.users.includes(user) ? volume.users : [...volume.users, user];
      await this.save({ ...volume, users: held, mounts: [...volume.mounts, user] }, mountEvent(volume, request));
      return this.folders.path(name);
    });
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

  async unmount(name: string, user: string): Promise<void> {
    await this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const volume = this.records.volumes.get(name);
      if (volume?.mounts.includes(user)) await this.forgetMount(volume, user);
    });
  }

  private async forgetMount(volume: VolumeRecord, user: string): Promise<VolumeRecord> {
    const mounts = volume.mounts.filter((one) => one !== user);
    if (mounts.length === 0 && volumeMount(volume) !== undefined && this.folders.isMounted(volume.name)) this.folders.unmount(volume.name);
    return this.save({ ...volume, mounts }, event('volume', 'unmount', volume.name, { driver: volume.driver, container: user }));
  }

  async populate(name: string, sourceDir: string): Promise<boolean> {
    return this.records.withLease(`volume/${name}`, async () => {
      const volume = this.require(name);
      const wanted = volumeMount(volume);
      const alreadyMounted = this.folders.isMounted(name);
      if (wanted !== undefined && !alreadyMounted) await this.mountNow(volume, wanted);
      try {
        return await this.folders.populate(name, sourceDir, wanted !== undefined || volume.mounts.length > 0);
      } finally {
        // Content copied into a tmpfs would go with the mount: it stays for the start that follows.
        if (wanted !== undefined && !alreadyMounted && wanted.type !== 'tmpfs' && volume.mounts.length === 0) this.folders.unmount(name);
      }
    });
  }

  /** Forgets containers that do not exist. */
  async retain(known: readonly string[]): Promise<void> {
    const alive = new Set(known);
    for (const volume of [...this.records.volumes.values()]) {
      const gone = [...new Set([...volume.users, ...volume.mounts])].filter((user) => !alive.has(user));
      for (const user of gone) await this.release(volume.name, user, false);
    }
  }

  /** Brings disk and records together after a crash: folders without a record are half removed or half made. */
  async reconcile(): Promise<void> {
    for (const name of this.folders.names()) {
      if (this.records.volumes.has(name)) continue;
      if (this.folders.isMounted(name)) this.folders.unmount(name);
      await this.folders.remove(name);
    }
    for (const volume of this.records.volumes.values()) {
      this.folders.create(volume.name);
      const wanted = volumeMount(volume);
      if (wanted === undefined) continue;
      if (volume.mounts.length === 0 && this.folders.isMounted(volume.name)) this.folders.unmount(volume.name);
    }
  }
}

function sameOptions(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const keys = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...keys].every((key) => one[key] === other[key]);
}

function mountEvent(volume: VolumeRecord, request: Partial<MountVolumeRequest>): ReturnType<typeof event> {
  return event('volume', 'mount', volume.name, {
    driver: volume.driver,
    container: request.user ?? '',
    ...(request.destination ? { destination: request.destination } : {}),
    propagation: request.propagation ?? '',
    'read/write': String(!(request.readOnly ?? false)),
  });
}
