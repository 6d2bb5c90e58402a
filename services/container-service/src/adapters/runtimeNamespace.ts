/**
 * The mount namespace that crun is started in where the machine has hybrid cgroups (v1 with a v2 side that holds a controller), which it refuses.
 * In it an empty tmpfs hides the v2 side. It is made anew for each start, as a copy of what is mounted then: 0.2 ms, where a helper program would
 * take several; propagation stays as it is but for /sys/fs/cgroup, or binds would lose theirs. conmon itself stays outside, so that it holds no mounts.
 */
import { close, closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mount, mountFlags, namespaceKinds, openOwnNamespace, setns, unshare } from '@flotilla/syscalls';

const cgroups = '/sys/fs/cgroup';
const unified = join(cgroups, 'unified');

/** Whether the v2 side of a hybrid cgroup mount holds a controller. */
export function hybridHoldsController(): boolean {
  try {
    return readFileSync(join(unified, 'cgroup.controllers'), 'utf8').trim() !== '';
  } catch {
    return false;
  }
}

export interface RuntimeNamespace {
  /** for nsenter; there as long as it is not closed. */
  readonly path: string;
  close(): void;
}

/** All in one turn of this thread: nothing else of this process ever runs in the new namespace. */
export function openRuntimeNamespace(): RuntimeNamespace {
  const own = openOwnNamespace('mnt');
  try {
    unshare(namespaceKinds.mount);
    try {
      mount('none', cgroups, '', mountFlags.private);
      mount('tmpfs', unified, 'tmpfs', 0, 'mode=755');
      const fd = openOwnNamespace('mnt');
      return {
        path: `/proc/${process.pid}/fd/${fd}`,
        // Its last user takes it down, which the kernel does in milliseconds: not on this thread.
        close: () => close(fd, () => undefined),
      };
    } finally {
      setns(own, namespaceKinds.mount);
    }
  } finally {
    closeSync(own);
  }
}
