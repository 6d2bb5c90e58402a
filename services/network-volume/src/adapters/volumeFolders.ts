/**
 * Volumes on disk:
 *
 * ```
 * <data-root>/volumes/NAME/_data      the content, or what its options mount there
 * <data-root>/volumes/NAME/_copying   a copy-up or a restore in progress, renamed to _data when it is whole
 * <data-root>/volumes/NAME/_replaced  what a restore takes the place of; put back when a crash comes between
 * ```
 */
import { spawn } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { closeSync, constants, existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import { lstat, opendir, readdir, rm, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { hasCode, mount, mountPointsBelow, openat2, openPath, resolveFlags, umount } from '@flotilla/syscalls';
import type { VolumeFolders as Folders } from '../localVolumes.ts';
import { mountArguments } from '../mountOptions.ts';
import type { VolumeMount } from '../volume.ts';

const dataName = '_data';
const copyName = '_copying';
const replacedName = '_replaced';
const maxErrorBytes = 4_096;

export class VolumeFolders implements Folders {
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
    mkdirSync(root, { recursive: true, mode: 0o701 });
  }

  path(name: string): string {
    return join(this.root, name, dataName);
  }

  create(name: string): void {
    const folder = join(this.root, name);
    mkdirSync(folder, { recursive: true, mode: 0o701 });
    if (existsSync(join(folder, replacedName)) && !existsSync(this.path(name))) renameSync(join(folder, replacedName), this.path(name));
    mkdirSync(this.path(name), { recursive: true, mode: 0o755 });
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.root, name), { recursive: true, force: true });
  }

  names(): string[] {
    return readdirSync(this.root);
  }

  isWhole(name: string): boolean {
    return existsSync(this.path(name));
  }

  isMounted(name: string): boolean {
    return mountPointsBelow(join(this.root, name)).includes(this.path(name));
  }

  async mount(name: string, { type, device, options }: VolumeMount): Promise<void> {
    const isNetwork = type.startsWith('nfs') || type === 'cifs';
    if (isNetwork && !kernelHas(type)) throw new Error(`${type} is not supported by this host's kernel`);
    const wanted = mountArguments(isNetwork ? await resolveServer(options) : options);
    const isBind = (wanted.flags & 0x1000) !== 0;
    mount(device, this.path(name), isBind ? 'none' : type, wanted.flags, isBind ? '' : wanted.data);
    if (isBind && (wanted.flags & ~(0x1000 | 0x4000)) !== 0) {
      // A bind takes its own flags only in a second step.
      mount('none', this.path(name), '', wanted.flags | 0x20);
    }
  }

  unmount(name: string): void {
    umount(this.path(name));
  }

  /**
   * Copies with owners, modes, times, hard links, holes and extended attributes, the directory's own too.
   *
   * @param inPlace - the directory is mounted or in use: it cannot be replaced by the finished copy.
   */
  async populate(name: string, sourceDir: string, subpath: string, inPlace: boolean): Promise<boolean> {
    const target = this.path(name);
    if (subpath !== '') return await copyUp(sourceDir, target, subpath);
    if (!(await isEmpty(target)) || (await hasNothingFor(sourceDir, target))) return false;
    if (inPlace) return await copyUp(sourceDir, target, '');
    const copying = join(this.root, name, copyName);
    await rm(copying, { recursive: true, force: true });
    mkdirSync(copying, { mode: 0o755 });
    await copyTree(sourceDir, copying);
    rmdirSync(target);
    renameSync(copying, target);
    return true;
  }

  isEmpty(name: string): Promise<boolean> {
    return isEmpty(this.path(name));
  }

  async replaceContent(name: string, fill: (directory: string) => Promise<void>): Promise<void> {
    const [copying, replaced] = [join(this.root, name, copyName), join(this.root, name, replacedName)];
    await rm(copying, { recursive: true, force: true });
    await rm(replaced, { recursive: true, force: true });
    mkdirSync(copying, { mode: 0o755 });
    try {
      await fill(copying);
    } catch (error) {
      await rm(copying, { recursive: true, force: true });
      throw error;
    }
    renameSync(this.path(name), replaced);
    renameSync(copying, this.path(name));
    await rm(replaced, { recursive: true, force: true });
  }

  async sizeBytes(name: string): Promise<number> {
    return treeBytes(this.path(name), new Set());
  }
}

/** Fills a directory that is empty, as {@link VolumeFolders.populate} does in place. What is below it is reached by no link that leads out. */
export async function copyUp(sourceDir: string, directory: string, subpath: string): Promise<boolean> {
  const fd = openBelow(directory, subpath);
  if (fd === undefined) return false;
  const target = `/proc/${process.pid}/fd/${fd}`;
  try {
    if (!(await isEmpty(target)) || (await hasNothingFor(sourceDir, target))) return false;
    await copyTree(sourceDir, target);
    return true;
  } finally {
    closeSync(fd);
  }
}

function openBelow(directory: string, subpath: string): number | undefined {
  const root = openSync(directory, constants.O_DIRECTORY | openPath);
  try {
    const resolve = resolveFlags.beneath | resolveFlags.noMagicLinks;
    return openat2(root, subpath || '.', { flags: constants.O_DIRECTORY | openPath, resolve });
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV')) return undefined;
    throw error;
  } finally {
    closeSync(root);
  }
}

function kernelHas(type: string): boolean {
  return readFileSync('/proc/filesystems', 'utf8')
    .split('\n')
    .some((line) => line.split('\t').at(-1) === type);
}

/** The kernel's nfs wants the server as an address in `addr=`. */
async function resolveServer(options: string): Promise<string> {
  const server = /(?:^|,)addr=([^,]+)/.exec(options)?.[1];
  if (server === undefined || isIP(server) !== 0) return options;
  const { address } = await lookup(server);
  return options.replace(`addr=${server}`, `addr=${address}`);
}

async function isEmpty(folder: string): Promise<boolean> {
  const entries = await opendir(folder);
  try {
    return (await entries.read()) === null;
  } finally {
    await entries.close();
  }
}

/** An empty volume gets the owner and mode of an empty directory too: a program that is not root writes where its image let it. */
async function hasNothingFor(source: string, target: string): Promise<boolean> {
  if (!(await isEmpty(source))) return false;
  const [from, to] = await Promise.all([stat(source), stat(target)]);
  return from.uid === to.uid && from.gid === to.gid && from.mode === to.mode;
}

/** GNU cp: it knows hard links, holes and every attribute, and runs at the disk's speed. */
function copyTree(source: string, target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('cp', ['-a', '--reflink=auto', '--', `${source}/.`, target], { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => {
      if (complaint.length < maxErrorBytes) complaint += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`copy-up failed: ${complaint.trim()}`))));
  });
}

/** Bytes of all files and symbolic links, each hard-linked one once, as dockerd counts. */
async function treeBytes(folder: string, seen: Set<string>): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      sum += await treeBytes(path, seen);
      continue;
    }
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined) continue;
    const inode = `${found.dev}:${found.ino}`;
    if (found.nlink > 1 && seen.has(inode)) continue;
    if (found.nlink > 1) seen.add(inode);
    sum += found.size;
  }
  return sum;
}
