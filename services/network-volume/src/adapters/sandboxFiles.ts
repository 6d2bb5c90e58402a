/**
 * The three files that are bound over a container's own. They are written in place, never renamed over: a bind mount holds the inode.
 *
 * `<exec-root>/network-volume/sandboxes/<container id>/{hostname,hosts,resolv.conf}`, and beside them `resolv.conf.hash`, of what we wrote.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
    writeFileSync(paths.hostname, content.hostname, { mode: 0o644 });
    writeFileSync(paths.hosts, content.hosts, { mode: 0o644 });
    this.writeResolvConf(paths.resolvConf, content.resolvConf);
    return paths;
  }

  private writeResolvConf(path: string, content: string): void {
    writeFileSync(path, content, { mode: 0o644 });
    writeFileSync(hashPath(path), hash(content), { mode: 0o600 });
  }

  editHosts(containerId: string, edit: (current: string) => string): void {
    const { hosts } = this.paths(containerId);
    const current = this.read(hosts);
    const wanted = edit(current);
    if (existsSync(hosts) && wanted !== current) writeFileSync(hosts, wanted);
  }

  replaceResolvConf(containerId: string, before: string, wanted: string): void {
    const path = this.paths(containerId).resolvConf;
    if (!existsSync(path)) return;
    const current = this.read(path);
    const written = this.read(hashPath(path)) || hash(before);
    if (current !== wanted && written === hash(current)) this.writeResolvConf(path, wanted);
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

function hashPath(path: string): string {
  return `${path}.hash`;
}

function hash(content: string): string {
  return createHash('sha256').update(content).digest('hex');
}
