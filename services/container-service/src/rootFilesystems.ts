/**
 * Which containers' root file systems are mounted, and for how many users: a run is one, and so is each copy in or out of a stopped container.
 */
import type { Snapshot } from './container.ts';

/** What mounts and unmounts; the kernel, or a fake. */
export interface OverlayMounter {
  mount(snapshot: Snapshot): void;
  unmount(snapshot: Snapshot): void;
}

export class RootFilesystems {
  private readonly users = new Map<string, number>();
  private readonly mounter: OverlayMounter;

  constructor(mounter: OverlayMounter) {
    this.mounter = mounter;
  }

  /** Mounts it for the first user; `release` ends each use. */
  acquire(id: string, snapshot: Snapshot): void {
    const users = this.users.get(id) ?? 0;
    if (users === 0) {
      // What a killed instance left mounted would lie below the new mount for ever.
      this.mounter.unmount(snapshot);
      this.mounter.mount(snapshot);
    }
    this.users.set(id, users + 1);
  }

  /** Takes over the mount of a run that another instance began. */
  adopt(id: string): void {
    this.users.set(id, (this.users.get(id) ?? 0) + 1);
  }

  release(id: string, snapshot: Snapshot): void {
    const users = this.users.get(id) ?? 0;
    if (users > 1) {
      this.users.set(id, users - 1);
      return;
    }
    this.users.delete(id);
    this.mounter.unmount(snapshot);
  }

  /** Unmounts it whoever uses it: the container is removed. */
  forget(id: string, snapshot: Snapshot): void {
    this.users.delete(id);
    this.mounter.unmount(snapshot);
  }

  /** Runs `use` while it is mounted. */
  async with<T>(id: string, snapshot: Snapshot, use: (root: string) => Promise<T>): Promise<T> {
    this.acquire(id, snapshot);
    try {
      return await use(snapshot.mergedDir);
    } finally {
      this.release(id, snapshot);
    }
  }
}
