/** Volumes: named directories, who holds them, what is mounted on them. */
import type { AcquireVolumeRequest, ListVolumesRequest, MountVolumeRequest } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { randomId, type Volume, type VolumeCreateRequest } from '@flotilla/engine-api';
import { Conflict, errorKind, errorMessage, InvalidParameter, isFlotillaError, isNotFound, makeError, NotFound } from '@flotilla/errors';
import type { IsOwn } from '@flotilla/service-kit/rights';
import {
  anyOf,
  booleanFilter,
  checkFilters,
  type Filters,
  filterValues,
  matchesLabels,
  matchesPruneLabels,
  textMatcher,
} from './filters.ts';
import type { LocalVolumes } from './localVolumes.ts';
import { event, type Records } from './records.ts';
import { anonymousLabel, checkVolumeName, foreignDocument, type PluginVolume, type VolumeRecord, volumeDocument } from './volume.ts';
import type { VolumeDriver } from './volumeDriver.ts';

export interface VolumeDrivers {
  readonly local: LocalVolumes;
  /** @throws NotFound in dockerd's words; Unavailable when a plugin does not answer. */
  find(name: string): Promise<VolumeDriver>;
  /** All volumes of all plugins that answer; a warning for each that does not. */
  outside(): Promise<{ readonly volumes: readonly PluginVolume[]; readonly warnings: readonly string[] }>;
}

const localDriver = 'local';

export interface VolumesOptions {
  readonly records: Records;
  readonly drivers: VolumeDrivers;
  readonly onError: (error: unknown) => void;
}

export class Volumes {
  private readonly records: Records;
  private readonly drivers: VolumeDrivers;
  private readonly onError: (error: unknown) => void;

  constructor(options: VolumesOptions) {
    this.records = options.records;
    this.drivers = options.drivers;
    this.onError = options.onError;
  }

  /** @throws NotFound in dockerd's words. */
  private require(name: string): VolumeRecord {
    const found = this.records.volumes.get(name);
    if (found === undefined) throw new NotFound(`get ${name}: no such volume`);
    return found;
  }

  private async document(volume: VolumeRecord): Promise<Volume> {
    const driver = await this.drivers.find(volume.driver);
    return volumeDocument(volume, driver.scope, await driver.state(volume));
  }

  /** The same of one just made: a plugin that tells nothing of it is no failure then. */
  private async madeDocument(volume: VolumeRecord): Promise<Volume> {
    try {
      return await this.document(volume);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return volumeDocument(volume, 'local', { mountpoint: '' });
    }
  }

  /** Creates a volume, or gives the one that is there when nothing contradicts. */
  async create(request: VolumeCreateRequest): Promise<Volume> {
    const { volume } = await this.ensure({
      name: request.Name ?? '',
      driver: request.Driver ?? '',
      options: request.DriverOpts ?? {},
      labels: request.Labels ?? {},
    });
    return this.madeDocument(volume);
  }

  private async ensure(
    wish: { name: string; anonymous?: boolean; driver: string; options: Record<string, string>; labels: Record<string, string> },
    user?: string,
  ): Promise<{ volume: VolumeRecord; created: boolean }> {
    const anonymous = wish.name === '' || wish.anonymous === true;
    const name = wish.name || randomId();
    checkVolumeName(name);
    return naming(`create ${name}`, async () => this.ensureNamed({ ...wish, name, anonymous }, user));
  }

  private async ensureNamed(
    wish: { name: string; anonymous: boolean; driver: string; options: Record<string, string>; labels: Record<string, string> },
    user: string | undefined,
  ): Promise<{ volume: VolumeRecord; created: boolean }> {
    const { name, anonymous } = wish;
    const driver = await this.drivers.find(wish.driver || localDriver);
    driver.check(wish.options);
    return this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const existing = this.records.volumes.get(name);
      if (existing !== undefined && !(await this.isLost(existing))) {
        if (wish.driver !== '' && wish.driver !== existing.driver) {
          throw new Conflict(`conflict: driver '${existing.driver}' already has volume '${name}'`);
        }
        if (Object.keys(wish.options).length > 0 && !sameOptions(existing.options, wish.options)) {
          throw new Conflict('conflict: volume already exists with different options');
        }
        return { volume: await this.withUser(existing, user), created: false };
      }
      const volume: VolumeRecord = {
        name,
        driver: driver.name,
        options: wish.options,
        labels: anonymous ? { ...wish.labels, [anonymousLabel]: '' } : wish.labels,
        createdAt: `${new Date().toISOString().slice(0, 19)}Z`,
        anonymous,
        users: user === undefined ? [] : [user],
        mounts: [],
      };
      await driver.create(name, wish.options);
      await this.records.commit({
        puts: [this.records.volumes.put(name, volume, { create: existing === undefined })],
        events: [event('volume', 'create', name, { driver: driver.name })],
      });
      return { volume, created: true };
    });
  }

  /** A plugin may have lost it without us: then it can be made again, unless a container has it. */
  private async isLost(volume: VolumeRecord): Promise<boolean> {
    if (volume.driver === localDriver || volume.users.length > 0) return false;
    try {
      await (await this.drivers.find(volume.driver)).state(volume);
      return false;
    } catch (error) {
      return isNotFound(error);
    }
  }

  private async withUser(volume: VolumeRecord, user: string | undefined): Promise<VolumeRecord> {
    if (user === undefined || volume.users.includes(user)) return volume;
    return this.save({ ...volume, users: [...volume.users, user] });
  }

  private async save(volume: VolumeRecord, ...events: ReturnType<typeof event>[]): Promise<VolumeRecord> {
    await this.records.commit({ puts: [this.records.volumes.put(volume.name, volume)], events });
    return volume;
  }

  /** A volume of ours, or one that a plugin has without us. */
  async inspect(name: string): Promise<Volume> {
    const own = this.records.volumes.get(name);
    if (own !== undefined) return naming(`get ${name}`, () => this.document(own));
    const found = (await this.drivers.outside()).volumes.find((volume) => volume.name === name);
    if (found === undefined) throw new NotFound(`get ${name}: no such volume`);
    return foreignDocument(found);
  }

  async list(request: ListVolumesRequest): Promise<{ volumes: Volume[]; warnings: string[] }> {
    const { filters } = request;
    checkFilters(filters, ['dangling', 'driver', 'label', 'name']);
    const dangling = booleanFilter(filters, 'dangling');
    const hasName = textMatcher(filters, 'name');
    const outside = await this.drivers.outside();
    const documents: Volume[] = [];
    for (const volume of this.records.volumes.values()) {
      if (dangling !== undefined && dangling !== (volume.users.length === 0)) continue;
      // What is elsewhere, a mount or a plugin's, is not looked through for its size, as by dockerd.
      if (request.usage && (volume.driver !== localDriver || Object.keys(volume.options).length > 0)) continue;
      const document = this.listed(volume, outside.volumes);
      documents.push(request.usage ? withUsage(document, volume, await this.sizeOf(volume)) : document);
    }
    // What a plugin has without us is used by no container of ours.
    const foreign =
      dangling === false || request.usage ? [] : outside.volumes.filter(({ name }) => !this.records.volumes.has(name)).map(foreignDocument);
    const volumes = [...documents, ...foreign]
      .filter(
        (volume) =>
          hasName(volume.Name) &&
          anyOf(filters, 'driver', (value) => volume.Driver === value) &&
          matchesLabels(volume.Labels ?? {}, filterValues(filters, 'label')),
      )
      .sort((a, b) => (a.Name < b.Name ? -1 : 1));
    return { volumes, warnings: [...outside.warnings] };
  }

  private listed(volume: VolumeRecord, outside: readonly PluginVolume[]): Volume {
    if (volume.driver === localDriver) return volumeDocument(volume, 'local', { mountpoint: this.drivers.local.path(volume.name) });
    const found = outside.find(({ driver, name }) => driver === volume.driver && name === volume.name);
    return volumeDocument(volume, found?.scope ?? 'local', { mountpoint: found?.state.mountpoint ?? '' });
  }

  private async sizeOf(volume: VolumeRecord): Promise<number> {
    return volume.driver === localDriver ? this.drivers.local.sizeBytes(volume) : -1;
  }

  /** @throws Conflict while a container holds it, in dockerd's words. */
  async remove(name: string, force: boolean): Promise<void> {
    try {
      await this.records.withLease(`volume/${name}`, async () => {
        await this.records.fresh();
        await this.delete(this.require(name), force);
      });
    } catch (error) {
      if (!(force && isNotFound(error))) throw error;
    }
  }

  /** @param force - forget it even when its plugin fails. */
  private async delete(volume: VolumeRecord, force: boolean): Promise<void> {
    const { name, users } = volume;
    if (users.length > 0) throw new Conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
    const forget = () =>
      this.records.commit({
        deletes: [this.records.volumes.delete(name)],
        events: [event('volume', 'destroy', name, { driver: volume.driver })],
      });
    if (volume.driver === localDriver) {
      // A crash in between leaves a folder, which the next start removes.
      await forget();
      await this.drivers.local.remove(name);
      return;
    }
    try {
      await naming(`remove ${name}`, async () => (await this.drivers.find(volume.driver)).remove(name));
    } catch (error) {
      if (!force) throw error;
      this.onError(error);
    }
    await forget();
  }

  /** Removes volumes nobody holds: anonymous ones, with `all` the named ones too, of those that are for the caller to remove. */
  async prune(filters: Filters, isOwn: IsOwn = () => true): Promise<{ names: string[]; spaceReclaimed: bigint }> {
    checkFilters(filters, ['all', 'label', 'label!']);
    const all = booleanFilter(filters, 'all') ?? false;
    const names: string[] = [];
    let spaceReclaimed = 0n;
    for (const volume of [...this.records.volumes.values()]) {
      if (volume.driver !== localDriver || volume.users.length > 0 || Object.keys(volume.options).length > 0) continue;
      if (!isOwn(volume.name, volume.labels)) continue;
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
    const { name, anonymous, driver, driverOptions: options, labels } = request;
    const wish = { name, anonymous, driver, options, labels };
    const { volume, created } = await this.ensure(wish, request.user);
    const { Mountpoint } = await this.madeDocument(volume);
    return { name: volume.name, driver: volume.driver, mountpoint: Mountpoint, created };
  }

  async release(name: string, user: string, removeAnonymous: boolean): Promise<void> {
    await this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const volume = this.records.volumes.get(name);
      if (volume === undefined) return;
      const left = await this.forgetUser(volume, user);
      if (removeAnonymous && left.anonymous && left.users.length === 0) await this.delete(left, true);
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
      const driver = await naming(`mount ${name}`, () => this.drivers.find(volume.driver));
      const path = await driver.mount(volume, user);
      if (volume.mounts.includes(user)) return path;
      const held = volume.users.includes(user) ? volume.users : [...volume.users, user];
      await this.save({ ...volume, users: held, mounts: [...volume.mounts, user] }, mountEvent(volume, request));
      return path;
    });
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
    try {
      await (await this.drivers.find(volume.driver)).unmount(volume, user, mounts.length === 0);
    } catch (error) {
      // A plugin that is down must not keep a container from ending.
      if (volume.driver === localDriver) throw error;
      this.onError(error);
    }
    return this.save({ ...volume, mounts }, event('volume', 'unmount', volume.name, { driver: volume.driver, container: user }));
  }

  async populate(name: string, sourceDir: string, subpath: string): Promise<boolean> {
    return this.records.withLease(`volume/${name}`, async () => {
      await this.records.fresh();
      const volume = this.require(name);
      return (await this.drivers.find(volume.driver)).populate(volume, sourceDir, subpath);
    });
  }

  /** By name: who holds it, or has it mounted. */
  uses(): { name: string; user: string }[] {
    return [...this.records.volumes.values()].flatMap((volume) => usersOf(volume).map((user) => ({ name: volume.name, user })));
  }

  /** Forgets containers that do not exist. */
  async retain(known: readonly string[]): Promise<void> {
    const alive = new Set(known);
    for (const volume of [...this.records.volumes.values()]) {
      const gone = usersOf(volume).filter((user) => !alive.has(user));
      for (const user of gone) await this.release(volume.name, user, false);
    }
  }

  /** Brings disk and records together after a crash. What looks unlike may be what another instance makes or removes right now: that is seen under the lease. */
  async reconcile(): Promise<void> {
    const { records, drivers } = this;
    const local = [...records.volumes.values()].filter(({ driver }) => driver === localDriver);
    for (const name of drivers.local.unlike(new Map(local.map((volume) => [volume.name, volume])), records.areLost === true)) {
      await records.withLease(`volume/${name}`, async () => {
        await records.fresh();
        const volume = records.volumes.get(name);
        await drivers.local.putRight(name, volume?.driver === localDriver ? volume : undefined);
      });
    }
  }
}

/** Says with every failure what was being done, as dockerd does. */
async function naming<T>(action: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isFlotillaError(error) ? makeError(errorKind(error), `${action}: ${errorMessage(error)}`, { cause: error }) : error;
  }
}

function usersOf(volume: VolumeRecord): string[] {
  return [...new Set([...volume.users, ...volume.mounts])];
}

function withUsage(document: Volume, volume: VolumeRecord, sizeBytes: number): Volume {
  return { ...document, UsageData: { RefCount: volume.users.length, Size: sizeBytes } };
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
