/** `GET /containers/{id}/archive` and `/export`: files of a container as tar. */
import { closeSync, constants, openSync } from 'node:fs';
import type { PathStat } from '@flotilla/engine-api';
import { openInRoot } from '../spec/rootfs.ts';
import { type ArchiveRoot, baseName, isKernelFile, notFound, pathStat, requestedPath, withPath } from './root.ts';
import { type ArchiveSink, TreeWriter } from './treeWriter.ts';

export interface OutgoingArchive {
  readonly stat: PathStat;
  /** Writes the archive; may be called once. */
  write(out: ArchiveSink, signal?: AbortSignal): Promise<void>;
  /** Gives up without writing. Idempotent. */
  close(): void;
}

/**
 * Opens a path for copying out. A link at its end is copied as a link, unless the path ends in `/` or `/.`.
 *
 * @throws NotFound in dockerd's words.
 */
export function openArchive(root: ArchiveRoot, path: string): OutgoingArchive {
  const wanted = requestedPath(path);
  const name = baseName(wanted);
  const stat = withPath(root, wanted, (status, rootFd) => pathStat(wanted, status, rootFd));
  // What is written is what is open now: the path may mean something else later.
  const held = hold(root, wanted);
  let open = true;
  const close = (): void => {
    if (open) closeSync(held.fd);
    open = false;
  };
  return {
    stat,
    close,
    async write(out, signal) {
      try {
        const writer = new TreeWriter(out, signal);
        if (held.isDirectory) await writer.addOpenDirectory(held.fd, Buffer.from(name));
        else await writer.add(held.fd, Buffer.from(name), Buffer.from(name));
        await writer.finish();
      } finally {
        close();
      }
    },
  };
}

/** A descriptor to copy from: a directory itself, or the directory in which a file is. */
function hold(root: ArchiveRoot, path: string): { fd: number; isDirectory: boolean } {
  return withPath(root, path, (status, rootFd) => {
    if (status.isDirectory()) {
      const fd = openInRoot(rootFd, path, constants.O_RDONLY | constants.O_DIRECTORY);
      if (isKernelFile(fd)) {
        closeSync(fd);
        throw notFound(root, path);
      }
      return { fd, isDirectory: true };
    }
    return {
      fd: openInRoot(rootFd, `${path.slice(0, path.lastIndexOf('/'))}/`, constants.O_RDONLY | constants.O_DIRECTORY),
      isDirectory: false,
    };
  });
}

/** Writes a whole root directory, without what is mounted in it. */
export async function exportTree(rootfs: string, out: ArchiveSink, signal?: AbortSignal): Promise<void> {
  const fd = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const writer = new TreeWriter(out, signal);
    await writer.addOpenDirectory(fd, Buffer.alloc(0));
    await writer.finish();
  } finally {
    closeSync(fd);
  }
}
