/** Volumes on a real disk: copy-up, options, hostile names, and what a crash leaves. */
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lgetxattr, lsetxattr } from '@flotilla/syscalls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { json, NetworkVolumeStack } from './stack.ts';

let stack: NetworkVolumeStack;

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
});
afterAll(() => stack.dispose());

async function create(config: object): Promise<Record<string, unknown>> {
  const { volumeJson } = await stack.volumes.create({ configJson: json(config) });
  return JSON.parse(Buffer.from(volumeJson).toString());
}

const mount = (name: string, user: string) => stack.volumes.mount({ name, user, destination: '/x', propagation: '', readOnly: false });
const folder = (name: string): string => join(stack.host.dataRoot, 'volumes', name);

describe('a plain volume', () => {
  it('gets what the image has, with owners, modes, links and attributes, only while it is empty', async () => {
    const source = join(stack.host.filesDirectory, 'image');
    mkdirSync(source, { mode: 0o750 });
    writeFileSync(join(source, 'file'), 'from the image', { mode: 0o640 });
    lsetxattr(join(source, 'file'), 'user.colour', 'red');
    symlinkSync('/etc/passwd', join(source, 'link'));
    await create({ Name: 'data' });
    expect(await stack.volumes.populate({ name: 'data', sourceDir: source, subpath: '' })).toEqual({ copied: true });
    const { path } = await mount('data', 'c1');
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('from the image');
    expect(lstatSync(join(path, 'file')).mode & 0o777).toBe(0o640);
    expect(lgetxattr(join(path, 'file'), 'user.colour')?.toString()).toBe('red');
    expect(lstatSync(join(path, 'link')).isSymbolicLink()).toBe(true);
    expect(lstatSync(path).mode & 0o777).toBe(0o750);
    writeFileSync(join(path, 'file'), 'changed');
    expect(await stack.volumes.populate({ name: 'data', sourceDir: source, subpath: '' })).toEqual({ copied: false });
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('changed');
    const listed = await stack.volumes.list({ filters: {}, usage: true });
    expect(JSON.parse(Buffer.from(listed.volumesJson).toString())).toMatchObject([
      { Name: 'data', UsageData: { RefCount: 1, Size: 'changed/etc/passwd'.length } },
    ]);
    await expect(stack.volumes.remove({ name: 'data', force: false })).rejects.toThrow('remove data: volume is in use - [c1]');
    expect(await stack.volumes.listUses({})).toEqual({ uses: [{ name: 'data', user: 'c1' }] });
    await stack.volumes.release({ name: 'data', user: 'c1', removeAnonymous: false });
    await stack.volumes.remove({ name: 'data', force: false });
    expect(existsSync(folder('data'))).toBe(false);
  });

  it('gets the owner and mode of a directory that the image has empty', async () => {
    const source = join(stack.host.filesDirectory, 'bare');
    mkdirSync(source);
    chownSync(source, 999, 998);
    chmodSync(source, 0o1770);
    const copied = async (subpath: string) => (await stack.volumes.populate({ name: 'bare', sourceDir: source, subpath })).copied;
    const looks = (path: string): unknown[] => [lstatSync(path).uid, lstatSync(path).gid, lstatSync(path).mode & 0o7777];
    await create({ Name: 'bare' });
    expect(await copied('')).toBe(true);
    const { path } = await mount('bare', 'c1');
    expect(looks(path)).toEqual([999, 998, 0o1770]);
    expect(await copied('')).toBe(false);
    mkdirSync(join(path, 'own'));
    expect(await copied('own')).toBe(true);
    expect(looks(join(path, 'own'))).toEqual([999, 998, 0o1770]);
    await stack.volumes.release({ name: 'bare', user: 'c1', removeAnonymous: false });
    await stack.volumes.remove({ name: 'bare', force: false });
  });

  it('gets it in a directory of its own that is empty, and by no link that leads out', async () => {
    const source = join(stack.host.filesDirectory, 'part');
    mkdirSync(source, { mode: 0o750 });
    writeFileSync(join(source, 'file'), 'from the image');
    await create({ Name: 'parts' });
    const { path } = await mount('parts', 'c1');
    for (const name of ['empty', 'full']) mkdirSync(join(path, name));
    writeFileSync(join(path, 'full/own'), '');
    const outside = join(stack.host.filesDirectory, 'outside');
    mkdirSync(outside);
    symlinkSync(outside, join(path, 'out'));
    const copied = async (subpath: string) => (await stack.volumes.populate({ name: 'parts', sourceDir: source, subpath })).copied;
    expect(await Promise.all(['full', 'out', '../..', 'missing', 'full/own'].map(copied))).toEqual([false, false, false, false, false]);
    expect(await copied('empty')).toBe(true);
    expect(readFileSync(join(path, 'empty/file'), 'utf8')).toBe('from the image');
    expect(lstatSync(join(path, 'empty')).mode & 0o777).toBe(0o750);
    expect([readdirSync(outside), readdirSync(path).sort()]).toEqual([[], ['empty', 'full', 'out']]);
    await stack.volumes.release({ name: 'parts', user: 'c1', removeAnonymous: false });
    await stack.volumes.remove({ name: 'parts', force: false });
  });

  it('cannot be made outside its folder', async () => {
    for (const Name of ['../evil', '..', '/evil', 'a/../../evil'])
      await expect(create({ Name })).rejects.toMatchObject({ kind: 'InvalidParameter' });
    expect(existsSync(join(stack.host.dataRoot, 'evil'))).toBe(false);
  });
});

describe('a volume with options', () => {
  it('is a tmpfs or a bind while somebody uses it', async () => {
    await create({ Name: 'ram', DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m,mode=0700' } });
    const { path } = await mount('ram', 'c1');
    expect(await stack.host.sh(`findmnt -no FSTYPE,OPTIONS ${path}`)).toMatch(/tmpfs.*size=1024k,mode=700/);
    await stack.volumes.unmount({ name: 'ram', user: 'c1' });
    await expect(stack.host.sh(`findmnt ${path}`)).rejects.toThrow();

    const bound = join(stack.host.filesDirectory, 'bound');
    mkdirSync(bound);
    writeFileSync(join(bound, 'precious'), '');
    await create({ Name: 'bound', DriverOpts: { type: 'none', device: bound, o: 'bind,ro' } });
    const there = (await mount('bound', 'c1')).path;
    expect(await stack.host.sh(`ls ${there}`)).toBe('precious\n');
    await expect(stack.host.sh(`touch ${there}/more`)).rejects.toThrow('Read-only');
    await stack.volumes.release({ name: 'bound', user: 'c1', removeAnonymous: false });
    await stack.volumes.release({ name: 'ram', user: 'c1', removeAnonymous: false });
    for (const name of ['bound', 'ram']) await stack.volumes.remove({ name, force: false });
    expect(existsSync(join(bound, 'precious'))).toBe(true);
  });

  it('says clearly what cannot be mounted', async () => {
    await create({ Name: 'broken', DriverOpts: { type: 'none', device: '/does/not/exist', o: 'bind' } });
    await expect(mount('broken', 'c1')).rejects.toThrow(/failed to mount local volume: .*No such file or directory/);
    await stack.volumes.release({ name: 'broken', user: 'c1', removeAnonymous: false });
    await stack.volumes.remove({ name: 'broken', force: false });
    // Nobody serves there; where the kernel has no NFS it says that.
    await create({ Name: 'far', DriverOpts: { type: 'nfs', device: ':/export', o: 'addr=127.0.0.1,soft,retry=0,timeo=1' } });
    await expect(mount('far', 'c1')).rejects.toThrow(/error while mounting volume '.*far.*': failed to mount local volume: .*/);
    await stack.volumes.release({ name: 'far', user: 'c1', removeAnonymous: false });
    await stack.volumes.remove({ name: 'far', force: false });
  });
});

it('is sound after kill -9: half made ones go, mounted ones stay', async () => {
  await create({ Name: 'ram', DriverOpts: { type: 'tmpfs', device: 'tmpfs' } });
  const { path } = await mount('ram', 'c1');
  await stack.host.sh(`echo kept > ${path}/file`);
  mkdirSync(join(folder('orphan'), '_data'), { recursive: true });
  await stack.stopService('SIGKILL');
  await stack.startService();
  expect(await stack.host.sh(`cat ${path}/file`)).toBe('kept\n');
  expect(existsSync(folder('orphan'))).toBe(false);
  await stack.volumes.retain({ known: [] });
  await stack.volumes.remove({ name: 'ram', force: false });
  expect(await stack.host.sh(`ls ${stack.host.dataRoot}/volumes`)).toBe('');
});
