/**
 * Root file systems that a build works on: the layers of an image under a writable directory that becomes the next layer, or read-only, to copy from.
 * Mounts are below `<image-service>/builds/<instance>-<random>/`, so that those a crash left are known.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { System } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import { mount, mountFlags, mountPointsBelow, umount, umountFlags } from '@flotilla/syscalls';
import type { ContentStore } from '../contentStore.ts';

/** mount(2) takes a page of options, the final zero included. */
const largestOptions = 4095;

export interface WritableRoot {
  /** The file system as the build sees it. */
  readonly root: string;
  /** A layer directory of the content store whose `diff` holds what was written. */
  readonly layerDirectory: string;
  /** Unmounts it; the layer directory stays for whoever takes it. */
  unmount(): void;
  /** Unmounts it and throws away what was written. */
  discard(): void;
}

export class RootFilesystems {
  private readonly content: ContentStore;
  private readonly directory: string;
  private readonly views = new Map<string, string>();
  private memoryRoot: string | undefined;
  private count = 0;

  /** @param directory - an existing directory on the content store's file system; its owner removes it after `close`. */
  constructor(content: ContentStore, directory: string) {
    this.content = content;
    this.directory = directory;
  }

  /** An empty directory of this build. */
  newDirectory(kind: string): string {
    const path = join(this.directory, `${kind}-${++this.count}`);
    mkdirSync(path, { mode: 0o755 });
    return path;
  }

  /** An empty directory that is in memory only. */
  memory(kind: string): string {
    if (this.memoryRoot === undefined) {
      this.memoryRoot = this.newDirectory('memory');
      mount('tmpfs', this.memoryRoot, 'tmpfs', mountFlags.noSuid | mountFlags.noDev | mountFlags.noExec, 'mode=0711,size=64m');
    }
    const path = join(this.memoryRoot, `${kind}-${++this.count}`);
    mkdirSync(path, { mode: 0o711 });
    return path;
  }

  /** Layers, lowest first, to be read; the same layers are mounted once. */
  view(layers: readonly Digest[]): string {
    const key = layers.join(' ');
    const known = this.views.get(key);
    if (known !== undefined) return known;
    const target = this.newDirectory('view');
    if (layers.length > 0) {
      const lowers = this.content.lowerLinks(layers);
      // Overlay wants two directories at least. An empty one below is no different.
      this.mountOverlay(target, lowers.length === 1 ? [...lowers, this.content.emptyLayer()] : lowers, '', mountFlags.readOnly);
    }
    this.views.set(key, target);
    return target;
  }

  /** Layers, lowest first, to be written on. */
  writable(layers: readonly Digest[]): WritableRoot {
    const layer = this.content.newLayerDirectory();
    const root = this.newDirectory('root');
    const work = this.newDirectory('work');
    this.mountOverlay(root, this.content.lowerLinks(layers), `,upperdir=${layer.diff},workdir=${work}`, 0);
    let mounted = true;
    const unmount = (): void => {
      if (!mounted) return;
      mounted = false;
      umount(root, umountFlags.noFollow);
      rmdirSync(root);
      void rm(work, { recursive: true, force: true });
    };
    return {
      root,
      layerDirectory: layer.path,
      unmount,
      discard: () => {
        unmount();
        this.content.discard(layer.path);
        void this.content.emptyTrash();
      },
    };
  }

  /** A directory to be written on, while it stays as it is. @throws where the kernel stacks no further, or its path cannot be an option. */
  over(directory: string): Pick<WritableRoot, 'root' | 'unmount'> {
    if (/[:,\\]/.test(directory)) throw new System(`a path that overlay cannot take: ${directory}`);
    const [root, upper, work] = [this.newDirectory('over'), this.newDirectory('upper'), this.newDirectory('work')];
    this.mountOverlay(root, [directory], `,upperdir=${upper},workdir=${work}`, 0);
    const unmount = (): void => {
      umount(root, umountFlags.noFollow);
      for (const path of [upper, work]) void rm(path, { recursive: true, force: true });
    };
    return { root, unmount };
  }

  private mountOverlay(target: string, lowers: readonly string[], rest: string, flags: number): void {
    const options = `lowerdir=${lowers.join(':')}${rest}`;
    if (options.length <= largestOptions) {
      mount('overlay', target, 'overlay', flags, options);
      return;
    }
    // Deep images: relative to the directory of short links, which mount(2) resolves from the working directory.
    const base = this.content.linksDirectory;
    const before = process.cwd();
    process.chdir(base);
    try {
      mount('overlay', target, 'overlay', flags, `lowerdir=${lowers.map((path) => relative(base, path)).join(':')}${rest}`);
    } finally {
      process.chdir(before);
    }
  }

  /** Unmounts everything that is still mounted. */
  close(): void {
    unmountBelow(this.directory);
  }
}

/** Takes away every mount below a directory. */
export function unmountBelow(directory: string): void {
  for (const target of mountPointsBelow(directory)) umount(target, umountFlags.detach | umountFlags.noFollow);
}
