/**
 * What a runtime makes in a container's root for its own mounts: `/etc/hosts` to bind over, `/proc`, `/dev`. dockerd keeps these in a layer of its own
 * that no image gets; here they are told from what the container's processes wrote, for commits and steps of builds.
 */
import { chmodSync, lstatSync, readdirSync, rmdirSync, rmSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { llistxattr } from '@flotilla/syscalls';

/** Deepest first. */
const points = [
  'dev/console',
  'dev/mqueue',
  'dev/pts',
  'dev/shm',
  'dev',
  'etc/hostname',
  'etc/hosts',
  'etc/mtab',
  'etc/resolv.conf',
  'proc',
  'sys',
  '.dockerenv',
];

/**
 * The paths in a writable layer that are the runtime's, deepest first. A directory that it only had to touch to put something there counts when
 * nothing else in it has changed.
 *
 * @param lowers - directories of the layers below, upper-most first.
 */
export function runtimePoints(upper: string, lowers: readonly string[]): string[] {
  const found = new Set<string>();
  for (const point of points) {
    const made = statOf(join(upper, point));
    if (made === undefined || !isBare(made, upper, point, found) || below(lowers, point) !== undefined) continue;
    found.add(point);
  }
  if (found.has('etc/hosts') || found.has('etc/hostname') || found.has('etc/resolv.conf')) {
    if (isUntouched(upper, lowers, 'etc', found)) found.add('etc');
  }
  return [...found];
}

/** Takes them away, for a layer that is made of the directory itself. Volumes stay, with the mode dockerd gives them. */
export function removeRuntimePoints(upper: string, lowers: readonly string[], volumes: readonly string[]): void {
  for (const path of runtimePoints(upper, lowers)) {
    const made = join(upper, path);
    if (statOf(made)?.isDirectory() === true) rmdirSync(made);
    else rmSync(made);
  }
  for (const volume of volumes) {
    const made = join(upper, volume);
    if (((statOf(made)?.mode ?? 0) & 0o7777) === runtimeMode && below(lowers, volume) === undefined) chmodSync(made, 0o755);
  }
}

/** What crun gives the directories it makes. */
const runtimeMode = 0o1755;

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    // A parent that is a file.
    return undefined;
  }
}

/** What lower layers have at a path; undefined also where a whiteout hides it. */
function below(lowers: readonly string[], path: string): Stats | undefined {
  for (const lower of lowers) {
    const stat = statOf(join(lower, path));
    if (stat !== undefined) return stat.isCharacterDevice() && stat.rdev === 0 ? undefined : stat;
  }
  return undefined;
}

function isBare(stat: Stats, upper: string, path: string, found: ReadonlySet<string>): boolean {
  if (stat.isSymbolicLink()) return path === 'etc/mtab';
  return stat.isDirectory() ? holdsOnly(upper, path, found) : stat.isFile() && stat.size === 0;
}

function holdsOnly(upper: string, path: string, found: ReadonlySet<string>): boolean {
  return readdirSync(join(upper, path)).every((name) => found.has(`${path}/${name}`));
}

function isUntouched(upper: string, lowers: readonly string[], path: string, found: ReadonlySet<string>): boolean {
  if (!holdsOnly(upper, path, found)) return false;
  const now = statOf(join(upper, path));
  const before = below(lowers, path);
  if (before === undefined) return true;
  const hasAttributes = llistxattr(join(upper, path)).some((name) => name.startsWith('user.') || name === 'trusted.overlay.opaque');
  return now?.mode === before.mode && now.uid === before.uid && now.gid === before.gid && !hasAttributes;
}
