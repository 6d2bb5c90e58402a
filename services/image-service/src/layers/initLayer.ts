/**
 * The lowest layer of every container: the file by which programs tell that they are in one, and what the runtime mounts over, so that it makes none of it in
 * the writable layer, unless the image hides it: what an image has at such a path, or has deleted there, lies above. dockerd has the same in a layer of its own
 * above the image.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasCode } from '@flotilla/syscalls';

const directories = ['dev/pts', 'dev/shm', 'proc', 'sys'];
const files = ['.dockerenv', 'dev/console', 'etc/hostname', 'etc/hosts', 'etc/resolv.conf'];

/** Makes it, or what a crash has left undone of it. */
export function makeInitLayer(path: string): void {
  for (const name of directories) mkdirSync(join(path, name), { recursive: true, mode: 0o755 });
  for (const name of files) {
    mkdirSync(dirname(join(path, name)), { recursive: true, mode: 0o755 });
    writeFileSync(join(path, name), '', { flag: 'a', mode: 0o755 });
  }
  try {
    symlinkSync('/proc/mounts', join(path, 'etc/mtab'));
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
}
