/**
 * The three files that are bound over a container's own. They are written in place, never renamed over: a bind mount holds the inode.
 *
 * `<exec-root>/network-volume/sandboxes/<container id>/{hostname,hosts,resolv.conf}`, and beside them `resolv.conf.hash`, of what we wrote: a line for what was
 * there when it was last written, where that was ours, and one for what came then.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { SandboxFilePaths, SandboxFileStore } from '../sandboxFileSet.ts';

export class SandboxFiles implements SandboxFileStore {
  private readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o711 });
  }

  paths(containerId: string): SandboxFilePaths {
    const folder = join(this.folder, containerId);
    return { hostname: join(folder, 'hostname'), hosts: join(folder, 'hosts'), resolvConf: join(folder, 'resolv.conf') };
  }

  write(containerId: string, content: { hostname: string; hosts: string; resolvConf: string }): SandboxFilePaths {
    const paths = this.paths(containerId);
    mkdirSync(join(this.folder, containerId), { recursive: true, mode: 0o711 });
    overwrite(paths.hostname, content.hostname);
    overwrite(paths.hosts, content.hosts);
    writeFileSync(hashPath(paths.resolvConf), hash(content.resolvConf), { mode: 0o600 });
    overwrite(paths.resolvConf, content.resolvConf);
    return paths;
  }

  editHosts(containerId: string, edit: (current: string) => string): void {
    const { hosts } = this.paths(containerId);
    const current = this.read(hosts);
    const wanted = edit(current);
    if (existsSync(hosts) && wanted !== current) overwrite(hosts, wanted);
  }

  replaceResolvConf(containerId: string, before: string, wanted: string): void {
    const path = this.paths(containerId).resolvConf;
    if (!existsSync(path)) return;
    const current = this.read(path);
    const written = (this.read(hashPath(path)) || hash(before)).split('\n');
    if (current === wanted || !written.includes(hash(current))) return;
    writeFileSync(hashPath(path), `${hash(current)}\n${hash(wanted)}`, { mode: 0o600 });
    overwrite(path, wanted);
  }

  read(path: string): string {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return '';
    }
  }

  remove(containerId: string): void {
    rmSync(join(this.folder, containerId), { recursive: true, force: true });
  }

  containerIds(): string[] {
    return readdirSync(this.folder);
  }
}

/**
 * Without a moment in which a death leaves nothing of it: one write of at least what was there, then what is too long goes. At worst empty lines stay at its end.
 */
function overwrite(path: string, content: string): void {
  const bytes = Buffer.from(content);
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o644);
  try {
    const { size } = fstatSync(fd);
    const padded = size > bytes.length ? Buffer.concat([bytes, Buffer.alloc(size - bytes.length, '\n')]) : bytes;
    writeSync(fd, padded, 0, padded.length, 0);
    if (size > bytes.length) ftruncateSync(fd, bytes.length);
  } finally {
    closeSync(fd);
  }
}

function hashPath(path: string): string {
  return `${path}.hash`;
}

function hash(content: string): string {
  return createHash('sha256').update(content).digest('hex');
}
