/**
 * Copying files in and out of containers, over tickets. A running container is seen through its first process' root, so with its mounts; one that does not
 * run has its root file system mounted for the time. What goes out comes in pieces: a copy that was cut must not look whole.
 */
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { FilesystemChange } from '@flotilla/contracts/flotilla/container/v1/containers';
import type { PathStat } from '@flotilla/engine-api';
import { Conflict, errorKind, errorMessage } from '@flotilla/errors';
import { chunksOf, encodeLine, type Ticket, type TicketServer, writeAll, writeOutput } from '@flotilla/streams';
import {
  type ArchiveRoot,
  checkDestination,
  containerChanges,
  copyIn,
  exportTree,
  openArchive,
  openStoppedView,
  removeAbandonedViews,
  statPath,
} from './archive/index.ts';
import type { ContainerRecord } from './container.ts';
import type { Paths } from './paths.ts';
import { isAlive, openProcessRoot, startTimeOf } from './processes.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import { lookUpUser } from './spec/users.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface ArchivesOptions {
  readonly paths: Pick<Paths, 'views'>;
  readonly tickets: TicketServer;
  readonly roots: RootFilesystems;
  readonly store: Pick<ContainerStore, 'commit'>;
}

export interface PutOptions {
  readonly noOverwriteDirNonDir: boolean;
  readonly copyUidGid: boolean;
}

interface Held {
  readonly root: ArchiveRoot;
  /** Ends the use; calling it twice changes nothing. */
  release(): void;
}

export class Archives {
  private readonly options: ArchivesOptions;

  constructor(options: ArchivesOptions) {
    this.options = options;
  }

  /** @param calledAs - the container as the client names it, for messages. @see Engine API v1.50 ContainerArchiveInfo */
  async stat(container: ContainerRecord, calledAs: string, path: string): Promise<PathStat> {
    const held = await this.hold(container, calledAs);
    try {
      return statPath(held.root, path);
    } finally {
      held.release();
    }
  }

  /** @see Engine API v1.50 ContainerArchive */
  async get(container: ContainerRecord, calledAs: string, path: string): Promise<{ ticket: Ticket; stat: PathStat }> {
    const held = await this.hold(container, calledAs);
    try {
      const archive = openArchive(held.root, path);
      await this.tell(container, 'archive-path').catch((error: unknown) => {
        archive.close();
        throw error;
      });
      const giveUp = (): void => {
        archive.close();
        held.release();
      };
      const ticket = this.options.tickets.issue(
        async (stream, signal) => {
          stream.resume();
          try {
            await archive.write((bytes) => writeOutput(stream, bytes), signal);
          } finally {
            giveUp();
          }
        },
        { inPieces: true, onExpired: giveUp },
      );
      return { ticket, stat: archive.stat };
    } catch (error) {
      held.release();
      throw error;
    }
  }

  /** The holder sends a tar and reads one JSON line: `{}` or the error. @see Engine API v1.50 PutContainerArchive */
  async put(container: ContainerRecord, calledAs: string, path: string, options: PutOptions): Promise<Ticket> {
    const held = await this.hold(container, calledAs);
    try {
      checkDestination(held.root, path);
      const owner = options.copyUidGid ? this.ownerOf(container, held.root) : undefined;
      return this.options.tickets.issue(
        async (stream) => {
          try {
            const told = (): Promise<void> => this.tell(container, 'extract-to-dir');
            await writeAll(stream, encodeLine(await this.unpack(held.root, path, stream, { ...options, owner, told })));
          } finally {
            held.release();
          }
        },
        { onExpired: () => held.release() },
      );
    } catch (error) {
      held.release();
      throw error;
    }
  }

  private async unpack(
    root: ArchiveRoot,
    path: string,
    stream: Readable,
    {
      noOverwriteDirNonDir,
      owner,
      told,
    }: { noOverwriteDirNonDir: boolean; owner: { uid: number; gid: number } | undefined; told: () => Promise<void> },
  ): Promise<object> {
    const archive = chunksOf(stream);
    try {
      await copyIn(root, path, archive, { noOverwriteDirNonDir, ...(owner === undefined ? {} : { owner }) });
      await told();
      return {};
    } catch (error) {
      return { error: errorKind(error), message: errorMessage(error) };
    } finally {
      await archive.return(undefined);
    }
  }

  private async tell(container: ContainerRecord, action: 'archive-path' | 'extract-to-dir' | 'export'): Promise<void> {
    await this.options.store.commit({ events: [containerEvent(container, action)] });
  }

  /** Without a user the archive's own ids stay. */
  private ownerOf({ config }: ContainerRecord, root: ArchiveRoot): { uid: number; gid: number } | undefined {
    if (!config.User) return undefined;
    const { uid, gid } = lookUpUser(root.path, config.User, []);
    return { uid, gid };
  }

  /** @see Engine API v1.50 ContainerExport */
  async export(container: ContainerRecord): Promise<Ticket> {
    const { tickets, roots } = this.options;
    if (container.state.status === 'dead') throw new Conflict(`You cannot export container ${container.id} which is Dead`);
    await roots.acquire(container.id, container.snapshot);
    const release = once(() => void roots.release(container.id, container.snapshot));
    await this.tell(container, 'export').catch((error: unknown) => {
      release();
      throw error;
    });
    return tickets.issue(
      async (stream, signal) => {
        stream.resume();
        try {
          await exportTree(container.snapshot.mergedDir, (bytes) => writeOutput(stream, bytes), signal);
        } finally {
          release();
        }
      },
      { inPieces: true, onExpired: release },
    );
  }

  /** @see Engine API v1.50 ContainerChanges */
  async changes({ snapshot }: ContainerRecord): Promise<FilesystemChange[]> {
    return containerChanges(snapshot.upperDir, snapshot.lowerDirs).map(({ Path: path, Kind: kind }) => ({ path, kind }));
  }

  private async hold(container: ContainerRecord, calledAs: string = container.id): Promise<Held> {
    const { roots } = this.options;
    const run = container.state.run;
    const root = (path: string): ArchiveRoot => ({
      path,
      container: calledAs,
      readOnlyRootfs: container.hostConfig.ReadonlyRootfs ?? false,
      mounts: container.mounts,
    });
    const running = run === undefined ? undefined : openProcessRoot(run.pid, run.pidStart);
    if (running !== undefined) return { root: root(`/proc/self/fd/${running}`), release: once(() => closeSync(running)) };
    await roots.acquire(container.id, container.snapshot);
    const release = once(() => void roots.release(container.id, container.snapshot));
    if (container.mounts.length === 0) return { root: root(container.snapshot.mergedDir), release };
    try {
      const view = openStoppedView(container.snapshot.mergedDir, container.mounts, join(this.options.paths.views, viewName()));
      return {
        root: root(view.path),
        release: () => {
          view.close();
          release();
        },
      };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Takes down what killed instances have left mounted. */
  removeAbandoned(): void {
    removeAbandonedViews(this.options.paths.views, (name) => {
      const [pid = '', start = ''] = name.split('.');
      return !isAlive(Number(pid), start);
    });
  }
}

/** Of several ends, the first counts. */
function once(end: () => void): () => void {
  let over = false;
  return () => {
    if (!over) end();
    over = true;
  };
}

/** Tells whose it is, so that another instance can tell that nobody's. */
function viewName(): string {
  return `${process.pid}.${startTimeOf(process.pid) ?? ''}.${randomBytes(8).toString('hex')}`;
}
