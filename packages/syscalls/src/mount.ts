/** mount(2) and umount2(2): a tenth of a millisecond, where spawning mount(8) takes several. */
import { checked, cPath, libc } from './libc.ts';

const mountCall = libc.func('int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)');
const umountCall = libc.func('int umount2(const char *target, int flags)');

/** MS_* of mount(2). */
export const mountFlags = {
  readOnly: 0x1,
  noSuid: 0x2,
  noDev: 0x4,
  noExec: 0x8,
  synchronous: 0x10,
  remount: 0x20,
  mandatoryLock: 0x40,
  dirSync: 0x80,
  noSymlinkFollow: 0x100,
  noAtime: 0x400,
  noDirAtime: 0x800,
  bind: 0x1000,
  move: 0x2000,
  recursive: 0x4000,
  silent: 0x8000,
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
  relatime: 0x200000,
  strictAtime: 0x1000000,
  lazyTime: 0x2000000,
} as const;

/** Flags of umount2(2). */
export const umountFlags = { force: 0x1, detach: 0x2, expire: 0x4, noFollow: 0x8 } as const;

/**
 * Mounts `source` on `target`. For a bind mount `type` is empty and `flags` holds `mountFlags.bind`.
 *
 * @param data - the file system's own options, joined by commas; at most a page.
 * @throws SyscallError
 */
export function mount(source: string, target: string, type = '', flags = 0, data = ''): void {
  const result = mountCall(
    cPath(source, 'mount'),
    cPath(target, 'mount'),
    type === '' ? null : type,
    flags,
    data === '' ? null : cPath(data, 'mount'),
  );
  checked(result, 'mount', `${type === '' ? source : type} on ${target}`);
}

/** Binds `source` on `target`; with `recursive` also what is mounted below it. */
export function bindMount(source: string, target: string, recursive = false): void {
  mount(source, target, '', mountFlags.bind | (recursive ? mountFlags.recursive : 0));
}

/** @throws SyscallError EINVAL when nothing is mounted there, EBUSY when it is in use (not with `umountFlags.detach`). */
export function umount(target: string, flags: number = umountFlags.noFollow): void {
  checked(umountCall(cPath(target, 'umount2'), flags), 'umount2', target);
}

/**
 * `umount` on a thread of its own: the kernel writes an overlay's files out and waits for all its processors before it lets go, milliseconds in which
 * this thread could do nothing else.
 *
 * @throws SyscallError as `umount` does.
 */
export function umountInBackground(target: string, flags: number = umountFlags.noFollow): Promise<void> {
  return new Promise((resolve, reject) => {
    // Its errno belongs to that thread and is not to be had here: asking again on this one tells it, and finishes what is left.
    umountCall.async(cPath(target, 'umount2'), flags, (error: Error | null, result: number) => {
      if (error !== null) return reject(error);
      if (result === 0) return resolve();
      try {
        umount(target, flags);
        resolve();
      } catch (failure) {
        reject(failure);
      }
    });
  });
}
