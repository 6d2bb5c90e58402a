/**
 * Which containers' root file systems are mounted, and for how many users: a run is one, and so is each copy in or out of a stopped container.
 */
import type { Snapshot } from './container.ts';

/** What mounts and unmounts; the kernel, or a fake. */
export interface OverlayMounter {
  mount(snapshot: Snapshot): void;
  /** Nothing happens when it is not mounted. */
  unmount(snapshot: Snapshot): Promise<void>;
  /** The same at once, for what a killed instance may have left. */
  clear(snapshot: Snapshot): void;
}

export class RootFilesystems {
  private readonly users = new Map<string, number>();
  /** Unmounts under way: a mount made meanwhile could be taken for the old one. */
  private readonly unmounting = new Map<string, Promise<void>>();
  private readonly mounter: OverlayMounter;

  constructor(mounter: OverlayMounter) {
    this.mounter = mounter;
  }

  /** Mounts it for the first user; `release` ends each use. */
  async acquire(id: string, snapshot: Snapshot): Promise<void> {
    await this.unmounting.get(id);
    const users = this.users.get(id) ?? 0;
    if (users === 0) {
      // What a killed instance left mounted would lie below the new mount for ever.
      this.mounter.clear(snapshot);
      this.mounter.mount(snapshot);
    }
    this.users.set(id, users + 1);
  }

  /** Takes over the mount of a run that another instance began. */
  adopt(id: string): void {
    this.users.set(id, (this.users.get(id) ?? 0) + 1);
  }

  async release(id: string, snapshot: Snapshot): Promise<void> {
    const users = this.users.get(id) ?? 0;
    if (users > 1) {
      this.users.set(id, users - 1);
      return;
    }
    await this.forget(id, snapshot);
  }

  /** Unmounts it whoever uses it: the container is removed. */
  async forget(id: string, snapshot: Snapshot): Promise<void> {
    this.users.delete(id);
    const before = this.unmounting.get(id);
    const unmounted = (before ?? Promise.resolve()).then(() => this.mounter.unmount(snapshot));
    this.unmounting.set(id, unmounted);
    await unmounted;
    if (this.unmounting.get(id) === unmounted) this.unmounting.delete(id);
  }

  /** Runs `use` while it is mounted. */
  async with<T>(id: string, snapshot: Snapshot, use: (root: string) => Promise<T>): Promise<T> {
    await this.acquire(id, snapshot);
    try {
      return await use(snapshot.mergedDir);
    } finally {
      await this.release(id, snapshot);
    }
  }
}
