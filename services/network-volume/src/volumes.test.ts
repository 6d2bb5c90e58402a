import { beforeEach, describe, expect, it } from 'vitest';
import { PluginDirectory } from './adapters/pluginDirectory.ts';
import { VolumePlugins } from './adapters/volumePlugins.ts';
import { LocalVolumes, type VolumeFolders } from './localVolumes.ts';
import { type MemoryRecords, memoryRecords } from './memoryRecords.ts';
import { mountArguments } from './mountOptions.ts';
import type { VolumeMount, VolumeRecord } from './volume.ts';
import { Volumes } from './volumes.ts';

class FakeFolders implements VolumeFolders {
  readonly folders = new Set<string>();
  readonly mounts = new Map<string, VolumeMount>();
  path = (name: string): string => `/volumes/${name}/_data`;
  create = (name: string): void => void this.folders.add(name);
  remove = async (name: string): Promise<void> => void this.folders.delete(name);
  names = (): string[] => [...this.folders];
  isWhole = (name: string): boolean => this.folders.has(name);
  mount = async (name: string, mount: VolumeMount): Promise<void> => void this.mounts.set(name, mount);
  unmount = (name: string): void => void this.mounts.delete(name);
  isMounted = (name: string): boolean => this.mounts.has(name);
  populate = async (): Promise<boolean> => true;
  sizeBytes = async (): Promise<number> => 10;
  isEmpty = async (): Promise<boolean> => true;
  replaceContent = async (): Promise<void> => undefined;
}

let records: MemoryRecords;
let folders: FakeFolders;
let volumes: Volumes;

beforeEach(() => {
  records = memoryRecords();
  folders = new FakeFolders();
  const drivers = new VolumePlugins({ local: new LocalVolumes(folders), directory: new PluginDirectory([]), copyUp: async () => false });
  volumes = new Volumes({ records, drivers, onError: () => undefined });
});

const acquire = (name: string, user: string) =>
  volumes.acquire({ name, user, driver: '', driverOptions: {}, labels: {}, anonymous: false });

describe('names and options', () => {
  it.each(['a', '../x', '/etc', '.hidden', 'a b', 'a\0b', 'ü1', `a${'b'.repeat(300)}`])('refuses the name %j', async (Name) => {
    await expect(volumes.create({ Name })).rejects.toMatchObject({ kind: 'InvalidParameter' });
    expect(folders.folders.size).toBe(0);
  });

  it.each([
    [{ colour: 'red' }, 'invalid option: "colour"'],
    [{ type: 'tmpfs' }, 'missing required option: "device"'],
    [{ o: 'size=1m' }, 'missing required option: "device"'],
    [{ size: '1g' }, 'quota size requested but no quota support'],
  ])('refuses the options %j', async (DriverOpts, message) => {
    await expect(volumes.create({ Name: 'vol', DriverOpts: DriverOpts as Record<string, string> })).rejects.toThrow(message);
  });

  it('refuses drivers that are not there', async () => {
    await expect(volumes.create({ Name: 'vol', Driver: 'cloud' })).rejects.toThrow(
      'error looking up volume plugin cloud: plugin "cloud" not found',
    );
  });
});

describe('a volume', () => {
  it('is made once', async () => {
    const [one, two] = [await volumes.create({ Name: 'vol', Labels: { a: 'b' } }), await volumes.create({ Name: 'vol' })];
    expect(two).toEqual(one);
    expect(one).toMatchObject({
      Name: 'vol',
      Driver: 'local',
      Mountpoint: '/volumes/vol/_data',
      Labels: { a: 'b' },
      Options: null,
      Scope: 'local',
    });
    expect(records.events.map(({ action }) => action)).toEqual(['create']);
  });

  it('cannot be removed while a container holds it', async () => {
    await acquire('vol', 'c1');
    await acquire('vol', 'c1');
    await expect(volumes.remove('vol', true)).rejects.toThrow('remove vol: volume is in use - [c1]');
    await volumes.release('vol', 'c1', true);
    await volumes.remove('vol', false);
    await expect(volumes.remove('vol', false)).rejects.toThrow('get vol: no such volume');
    await volumes.remove('vol', true);
    expect(folders.folders.size).toBe(0);
  });

  it('goes with its container when it has no name', async () => {
    const { name, created } = await acquire('', 'c1');
    expect(created).toBe(true);
    expect(name).toMatch(/^[0-9a-f]{64}$/);
    expect((await volumes.inspect(name)).Labels).toEqual({ 'com.docker.volume.anonymous': '' });
    await volumes.release(name, 'c1', false);
    expect((await volumes.inspect(name)).Name).toBe(name);
    await volumes.release(name, 'c1', true);
    await expect(volumes.inspect(name)).rejects.toThrow('no such volume');
  });

  it('is mounted while a container runs with it', async () => {
    await volumes.create({ Name: 'ram', DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' } });
    await volumes.mount({ name: 'ram', user: 'c1', destination: '/x', propagation: '', readOnly: true });
    await volumes.mount({ name: 'ram', user: 'c2' });
    await volumes.unmount('ram', 'c1');
    expect(folders.isMounted('ram')).toBe(true);
    await volumes.unmount('ram', 'c2');
    await volumes.unmount('ram', 'c2');
    expect(folders.isMounted('ram')).toBe(false);
    const mounted = records.events.find(({ action }) => action === 'mount');
    expect(mounted?.attributes).toEqual({ driver: 'local', container: 'c1', destination: '/x', propagation: '', 'read/write': 'false' });
  });

  it('is pruned when nobody holds it: anonymous ones, with all also named ones', async () => {
    await volumes.create({ Name: 'named' });
    const { name } = await acquire('', 'c1');
    await volumes.release(name, 'c1', false);
    await acquire('held', 'c2');
    expect(await volumes.prune({})).toEqual({ names: [name], spaceReclaimed: 10n });
    expect((await volumes.prune({ all: { values: ['true'] } })).names).toEqual(['named']);
    await volumes.retain([]);
    expect((await volumes.prune({ all: { values: ['1'] } })).names).toEqual(['held']);
    await expect(volumes.prune({ colour: { values: ['x'] } })).rejects.toThrow("invalid filter 'colour'");
  });
});

it('whose name its taker has made up is anonymous, taken once or again; uses are listed, each once', async () => {
  const name = 'f'.repeat(64);
  const madeUp = { name, user: 'c1', driver: '', driverOptions: {}, labels: {}, anonymous: true };
  expect(await volumes.acquire(madeUp)).toMatchObject({ name, created: true });
  expect(await volumes.acquire(madeUp)).toMatchObject({ name, created: false });
  await volumes.mount({ name, user: 'c1' });
  await acquire('named', 'c2');
  expect(volumes.uses()).toEqual([
    { name, user: 'c1' },
    { name: 'named', user: 'c2' },
  ]);
  await volumes.release(name, 'c1', true);
  await volumes.release('named', 'c2', true);
  expect([...folders.folders]).toEqual(['named']);
});

describe('a start', () => {
  /** What other instances have committed is heard with the next `fresh`. */
  function heardLater(commit: () => Promise<unknown>): void {
    Object.assign(records, { fresh: commit });
  }

  it('removes what a crash has left half made, and makes what it has left half removed', async () => {
    await volumes.create({ Name: 'kept' });
    folders.folders.delete('kept');
    await volumes.create({ Name: 'ram', DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' } });
    folders.mounts.set('ram', {} as VolumeMount);
    folders.create('stranger');
    await volumes.reconcile();
    expect([...folders.folders].sort()).toEqual(['kept', 'ram']);
    expect(folders.mounts.size).toBe(0);
  });

  it('leaves alone what another instance has just made, and does not make what it has just removed', async () => {
    await volumes.create({ Name: 'old' });
    const old = records.volumes.get('old') as VolumeRecord;
    folders.folders.delete('old');
    folders.create('new');
    heardLater(() =>
      records.commit({ puts: [records.volumes.put('new', { ...old, name: 'new' })], deletes: [records.volumes.delete('old')] }),
    );
    await volumes.reconcile();
    expect([...folders.folders]).toEqual(['new']);
  });

  it('who fills a volume knows one that another instance has just made', async () => {
    await volumes.create({ Name: 'old' });
    const old = records.volumes.get('old') as VolumeRecord;
    heardLater(() => records.commit({ puts: [records.volumes.put('new', { ...old, name: 'new' })] }));
    expect(await volumes.populate('new', '/from', '')).toBe(true);
  });
});

it('reads mount options as mount(8) does', () => {
  expect(mountArguments('ro,size=1m,noexec,uid=5')).toEqual({ flags: 0x9, data: 'size=1m,uid=5' });
  expect(mountArguments('bind,ro,rw')).toEqual({ flags: 0x1000, data: '' });
  expect(mountArguments('')).toEqual({ flags: 0, data: '' });
});
