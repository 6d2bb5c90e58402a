/**
 * Root file systems that a build works on: the layers of an image under a writable directory that becomes the next layer, or read-only, to copy from.
 * Mounts are below `<image-service>/builds/<instance>-<random>/`, so that those a crash left are known.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
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
    const [only] = layers;
    if (layers.length === 1 && only !== undefined) {
      // Overlay wants two directories at least. An empty one below is no different.
      this.mountOverlay(target, [this.content.layerLink(only), this.content.emptyLayer()], '', mountFlags.readOnly);
    } else if (layers.length > 1) this.mountOverlay(target, this.lowers(layers), '', mountFlags.readOnly);
    this.views.set(key, target);
    return target;
  }

  /** Layers, lowest first, to be written on. */
  writable(layers: readonly Digest[]): WritableRoot {
    const layer = this.content.newLayerDirectory();
    const root = this.newDirectory('root');
    const work = this.newDirectory('work');
    const lowers = layers.length === 0 ? [this.content.emptyLayer()] : this.lowers(layers);
    this.mountOverlay(root, lowers, `,upperdir=${layer.diff},workdir=${work}`, 0);
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

  private lowers(layers: readonly Digest[]): string[] {
    return layers.map((layer) => this.content.layerLink(layer)).reverse();
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
