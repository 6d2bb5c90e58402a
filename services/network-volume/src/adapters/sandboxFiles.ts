/**
 * The three files that are bound over a container's own. They are written in place, never renamed over: a bind mount holds the inode.
 *
 * `<exec-root>/network-volume/sandboxes/<container id>/{hostname,hosts,resolv.conf}`
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
    writeFileSync(paths.resolvConf, content.resolvConf, { mode: 0o644 });
    return paths;
  }

  /** Replaces a file's content if it still is what we wrote; somebody's edit inside the container stays. */
  rewrite(path: string, written: string, wanted: string): void {
    try {
      if (written !== wanted && readFileSync(path, 'utf8') === written) writeFileSync(path, wanted);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
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
