/** The root file system of a container: an overlay of its image's layers and its writable directory. */

import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { mount, umount, umountFlags, umountInBackground } from '@flotilla/syscalls';
import type { Snapshot } from '../container.ts';

/** mount(2) takes a page of options, the final zero included. */
const largestOptions = 4095;

function overlayOptions(snapshot: Snapshot, lowerDirs: readonly string[]): string {
  return `lowerdir=${lowerDirs.join(':')},upperdir=${snapshot.upperDir},workdir=${snapshot.workDir}`;
}

/** Mounts the overlay at its merged directory. @throws SyscallError */
export function mountOverlay(snapshot: Snapshot): void {
  const options = overlayOptions(snapshot, snapshot.lowerDirs);
  if (options.length <= largestOptions) {
    mount('overlay', snapshot.mergedDir, 'overlay', 0, options);
    return;
  }
  // Deep images: lower directories relative to a base that holds short links to them. mount(2) resolves them from the working directory.
  const shortened = overlayOptions(
    snapshot,
    snapshot.lowerDirs.map((path) => relative(snapshot.baseDir, path)),
  );
  const before = process.cwd();
  process.chdir(snapshot.baseDir);
  try {
    mount('overlay', snapshot.mergedDir, 'overlay', 0, shortened);
  } finally {
    process.chdir(before);
  }
}

/** Unmounts it; what still uses it keeps it until it lets go. Nothing happens when it is not mounted. */
export async function unmountOverlay(snapshot: Snapshot): Promise<void> {
  try {
    await umountInBackground(snapshot.mergedDir, umountFlags.detach | umountFlags.noFollow);
  } catch {
    return;
  }
  unmountAll(snapshot.mergedDir);
}

/** Takes away what an earlier instance may have left mounted there. */
export function clearOverlay(snapshot: Snapshot): void {
  unmountAll(snapshot.mergedDir);
}

/** Takes away every mount at `path`, however many lie on each other. */
export function unmountAll(path: string): void {
  for (;;) {
    try {
      umount(path, umountFlags.detach | umountFlags.noFollow);
    } catch {
      return;
    }
  }
}

/** The mount points at or below a directory, deepest first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
    .filter((path) => path === directory || path.startsWith(`${directory}/`))
    .sort((a, b) => b.length - a.length);
}
