/**
 * What a run leaves behind, and what a container holds: taken away after an exit, after a failed start, and by reconcile. Everything here may be
 * repeated; nothing here writes records.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NetworkSettings } from '@flotilla/engine-api';
import type { Logger } from '@flotilla/service-kit';
import { type ContainerRecord, sharedContainer } from './container.ts';
import { unmountImages } from './imageMounts.ts';
import { fromJson, type Neighbours } from './neighbours.ts';
import type { Paths } from './paths.ts';
import { processesNaming } from './processes.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import type { OciRuntime } from './runtime.ts';

/** The part of a control group that is needed here. */
interface ProcessGroup {
  processes(): number[];
  frozen(): boolean;
  thaw(): Promise<void>;
  remove(): boolean;
}

export interface TeardownOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly neighbours: Neighbours;
  readonly roots: RootFilesystems;
  readonly runtimes: { all(): readonly OciRuntime[] };
  readonly groupOf: (container: ContainerRecord) => ProcessGroup;
  /** By its path from the root of each hierarchy. */
  readonly groupAt: (path: string) => ProcessGroup;
  readonly unmountBelow: (directory: string) => void;
}

const groupDeadlineMs = 10_000;
/** A killed process may take a moment to go. */
const mostLooks = 200;
const callDeadlineMs = 15_000;

export class Teardown {
  private readonly options: TeardownOptions;

  constructor(options: TeardownOptions) {
    this.options = options;
  }

  /**
   * Frees what a run held: processes, root file system, network, volumes, control group, the runtime's state and the bundle. The exit file is left: it is all that
   * is known of the end until the record says so.
   *
   * @param remove - the container goes too: its endpoints and network files with it.
   * @returns the network settings of a stopped container, when network-volume has answered.
   */
  async afterRun(container: ContainerRecord, remove = false): Promise<NetworkSettings | undefined> {
    const [settings] = await Promise.all([
      this.releaseSandbox(container, remove),
      this.endProcesses(container).then(() => this.unmount(container)),
    ]);
    this.removeRunFiles(container.id);
    return settings;
  }

  /** Where a start was cut off or has failed: nothing of it goes on, and all that it held is free. */
  async afterFailedStart(container: ContainerRecord): Promise<void> {
    this.endStarters([container.id]);
    await this.afterRun(container);
    this.forgetExit(container.id);
  }

  /** Ends what is still busy starting a container: a runtime whose conmon was killed goes on, and would bring up what nobody knows. */
  endStarters(ids: readonly string[]): void {
    // One that forks while we look is seen at the next look only.
    for (let looks = 0, quiet = 0; quiet < 2 && looks < mostLooks; looks++) {
      const starting = processesNaming(this.options.paths.runs);
      const pids = ids.flatMap((id) => starting.get(id) ?? []);
      quiet = pids.length === 0 ? quiet + 1 : 0;
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has gone by itself.
        }
      }
    }
  }

  /** The end of a run that removes its container: all of it at once, but for the exit file. */
  async afterLastRun(container: ContainerRecord, removeVolumes: boolean): Promise<void> {
    await Promise.all([
      this.releaseSandbox(container, true),
      this.endProcesses(container).then(() => this.releaseHoldings(container, removeVolumes, true)),
    ]);
    this.removeRunFiles(container.id);
  }

  /** What lies on what goes first: binds of parts, then what they are parts of. */
  private async unmount(container: ContainerRecord): Promise<void> {
    const { roots } = this.options;
    this.unmountInBundle(container.id);
    await Promise.all([
      roots.unmountAfterRun(container.id, container.snapshot),
      unmountImages(container, roots),
      this.unmountVolumes(container),
    ]);
  }

  /** Frees what a container holds beyond its runs. Its files are left: `deleteFiles` takes them. */
  async releaseHoldings(container: ContainerRecord, removeVolumes: boolean, sandboxReleased = false): Promise<void> {
    const { neighbours, roots } = this.options;
    this.unmountInBundle(container.id);
    await Promise.all([
      sandboxReleased ? undefined : this.releaseSandbox(container, true),
      this.attempt(container, 'removing its snapshot', async () => {
        await roots.forget(container.id, container.snapshot);
        await neighbours.snapshots.remove({ key: container.id }, { deadlineMs: callDeadlineMs, idempotent: true });
      }),
      ...Object.entries(container.imageMounts ?? {}).map(([key, snapshot]) =>
        this.attempt(container, 'removing the snapshot of an image it mounts', async () => {
          await roots.forget(key, snapshot);
          await neighbours.snapshots.remove({ key }, { deadlineMs: callDeadlineMs, idempotent: true });
        }),
      ),
      ...this.volumesOf(container).map((name) =>
        this.attempt(container, 'releasing its volume', () =>
          neighbours.volumes.release(
            { name, user: container.id, removeAnonymous: removeVolumes },
            { deadlineMs: callDeadlineMs, idempotent: true },
          ),
        ),
      ),
    ]);
  }

  /** Deletes a removed container's directory. */
  deleteFiles(id: string): void {
    rmSync(this.options.paths.containerDirectory(id), { recursive: true, force: true });
  }

  /** Ends what is left in the control group (processes of a shared process namespace outlive the first one), then removes the group. */
  private endProcesses(container: ContainerRecord): Promise<void> {
    return this.endGroup(container.id, this.options.groupOf(container));
  }

  /** The same for a run whose container has no record: its bundle names the group. */
  async endStray(id: string): Promise<void> {
    const path = groupNamedIn(join(this.options.paths.bundle(id), 'config.json'));
    if (path !== undefined) await this.endGroup(id, this.options.groupAt(path));
  }

  private async endGroup(containerId: string, group: ProcessGroup): Promise<void> {
    const end = Date.now() + groupDeadlineMs;
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
      await this.thaw(containerId, group);
      for (const pid of group.processes()) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has gone by itself.
        }
      }
      if (group.remove()) return;
      if (Date.now() > end) {
        this.options.logger.error({ containerId }, 'its control group cannot be removed: a process does not end');
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** On v1 a killed process that stands still goes only when it may move. */
  private async thaw(containerId: string, group: ProcessGroup): Promise<void> {
    try {
      if (group.frozen()) await group.thaw();
    } catch (error) {
      // The group may have gone meanwhile.
      this.options.logger.debug({ containerId, error }, 'its control group could not be thawed');
    }
  }

  /** @returns the network settings of a stopped container; undefined when network-volume has not answered, or has nothing of it. */
  async releaseSandbox(container: ContainerRecord, remove: boolean): Promise<NetworkSettings | undefined> {
    if (sharedContainer(container.hostConfig.NetworkMode) !== undefined) return undefined;
    const answer = await this.attempt(container, 'releasing its sandbox', () =>
      this.options.neighbours.sandboxes.release({ containerId: container.id, remove }, { deadlineMs: callDeadlineMs, idempotent: true }),
    );
    return answer === undefined ? undefined : fromJson<NetworkSettings>(answer.networkSettingsJson);
  }

  private async unmountVolumes(container: ContainerRecord): Promise<void> {
    await Promise.all(
      this.volumesOf(container).map((name) =>
        this.attempt(container, 'unmounting its volume', () =>
          this.options.neighbours.volumes.unmount({ name, user: container.id }, { deadlineMs: callDeadlineMs, idempotent: true }),
        ),
      ),
    );
  }

  private volumesOf(container: ContainerRecord): string[] {
    return container.mounts.flatMap((mount) => (mount.type === 'volume' && mount.name ? [mount.name] : []));
  }

  /** The record tells of the end. */
  forgetExit(id: string): void {
    rmSync(this.options.paths.exit(id), { force: true });
  }

  /** The bundle with what is mounted in it, and what the OCI runtimes remember. */
  removeRunFiles(id: string): void {
    const { paths, runtimes } = this.options;
    const bundle = paths.bundle(id);
    if (existsSync(bundle)) {
      this.unmountInBundle(id);
      rmSync(bundle, { recursive: true, force: true });
    }
    for (const runtime of runtimes.all()) rmSync(join(runtime.root, id), { recursive: true, force: true });
  }

  /** Shared memory, and parts of volumes. */
  private unmountInBundle(id: string): void {
    const { paths, unmountBelow } = this.options;
    if (existsSync(paths.shm(id)) || existsSync(dirname(paths.subpath(id, 0)))) unmountBelow(paths.bundle(id));
  }

  /** A neighbour that is away must not keep a container from being seen as ended; its own reconcile (Retain) frees the rest. */
  private async attempt<T>(container: ContainerRecord, what: string, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (error) {
      this.options.logger.error({ containerId: container.id, error }, `${what} failed`);
      return undefined;
    }
  }
}

/** The control group of a bundle's run; undefined for a bundle that is not whole. */
function groupNamedIn(configPath: string): string | undefined {
  try {
    const config = JSON.parse(readFileSync(configPath, 'utf8')) as { linux?: { cgroupsPath?: string } };
    return config.linux?.cgroupsPath;
  } catch {
    return undefined;
  }
}
