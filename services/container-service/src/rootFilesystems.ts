/**
 * Mounts of containers' root file systems. A run has its own from start to end, whichever instance of this service begins and ends it; so has each copy in or
 * out of a container that does not run, for as long as it takes.
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
  private readonly mounter: OverlayMounter;
  private readonly isRunning: (id: string) => boolean;
  /** Copies under way in this instance. */
  private readonly copies = new Map<string, number>();
  /** Starts under way in this instance: their records do not call them running yet. */
  private readonly starting = new Set<string>();
  /** Unmounts under way: a mount made meanwhile could be taken for the old one. */
  private readonly unmounting = new Map<string, Promise<void>>();

  /** @param isRunning - by its record. */
  constructor(mounter: OverlayMounter, isRunning: (id: string) => boolean) {
    this.mounter = mounter;
    this.isRunning = isRunning;
  }

  /** Mounts it for a run; the caller holds the container's lease. Call what it answers when the record tells of the run, or there is none. */
  async mountForRun(id: string, snapshot: Snapshot): Promise<() => void> {
    await this.unmounting.get(id);
    // What is mounted there, by a copy or by a killed instance, would lie below the new mount for ever. A copy goes on in what it has open.
    this.mounter.clear(snapshot);
    this.mounter.mount(snapshot);
    this.starting.add(id);
    return () => this.starting.delete(id);
  }

  /** The run is over. A copy of this instance keeps the mount until it is done. */
  async unmountAfterRun(id: string, snapshot: Snapshot): Promise<void> {
    this.starting.delete(id);
    if ((this.copies.get(id) ?? 0) === 0) await this.unmount(id, snapshot);
  }

  /** Mounts it for a copy, unless a run has it mounted. */
  async acquire(id: string, snapshot: Snapshot): Promise<void> {
    await this.unmounting.get(id);
    const copies = this.copies.get(id) ?? 0;
    if (copies === 0 && !this.isHeld(id)) {
      this.mounter.clear(snapshot);
      this.mounter.mount(snapshot);
    }
    this.copies.set(id, copies + 1);
  }

  /** Ends a copy's use. */
  async release(id: string, snapshot: Snapshot): Promise<void> {
    const left = (this.copies.get(id) ?? 1) - 1;
    if (left > 0) {
      this.copies.set(id, left);
      return;
    }
    this.copies.delete(id);
    if (!this.isHeld(id)) await this.unmount(id, snapshot);
  }

  /** Unmounts it whoever uses it: the container is removed. */
  async forget(id: string, snapshot: Snapshot): Promise<void> {
    this.copies.delete(id);
    this.starting.delete(id);
    await this.unmount(id, snapshot);
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

  private isHeld(id: string): boolean {
    return this.starting.has(id) || this.isRunning(id);
  }

  private async unmount(id: string, snapshot: Snapshot): Promise<void> {
    const before = this.unmounting.get(id) ?? Promise.resolve();
    const unmounted = before.then(() => this.mounter.unmount(snapshot));
    this.unmounting.set(id, unmounted);
    await unmounted;
    if (this.unmounting.get(id) === unmounted) this.unmounting.delete(id);
  }
}
