/**
 * The AppArmor profile that confines containers unless they name another, where the kernel has AppArmor. It lives in the kernel alone: a reload of the
 * host's own profiles may drop it, so it is looked for at every start and loaded when it is not there.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errorMessage, System } from '@flotilla/errors';
import { defaultApparmorProfile } from '../spec/index.ts';

const run = promisify(execFile);

/** Everything is allowed that capabilities and seccomp allow, but for mounts and for the files by which the host itself is steered. */
const profile = `@{PROC}=/proc/

profile ${defaultApparmorProfile} flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  umount,
  deny mount,

  # Among themselves, and from the host: the engine is unconfined, the runtimes may have profiles of their own.
  signal (send,receive) peer=${defaultApparmorProfile},
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  ptrace (trace,read,tracedby,readby) peer=${defaultApparmorProfile},

  # Of /proc, processes and /proc/sys/kernel/shm* are writable.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/{kcore,sysrq-trigger} rwklx,

  # Of /sys, only /sys/fs/cgroup is.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
`;

interface ApparmorFiles {
  /** where the kernel lists its profiles, as `name (mode)` */
  readonly loaded: string;
  /** the program that compiles and loads them */
  readonly parser: string;
}

const ofThisHost: ApparmorFiles = { loaded: '/sys/kernel/security/apparmor/profiles', parser: '/sbin/apparmor_parser' };

export class Apparmor {
  readonly #files: ApparmorFiles;

  constructor(files = ofThisHost) {
    this.#files = files;
  }

  /** @throws System when the profile is not there and cannot be loaded. */
  async ensureDefaultProfile(): Promise<void> {
    if (this.#isLoaded()) return;
    const directory = mkdtempSync(join(tmpdir(), 'flotilla-apparmor-'));
    try {
      const file = join(directory, defaultApparmorProfile);
      writeFileSync(file, profile);
      await run(this.#files.parser, ['--skip-cache', '--replace', file]);
    } catch (error) {
      throw new System(
        `AppArmor enabled on system but the ${defaultApparmorProfile} profile could not be loaded: ${errorMessage(error).trim()}`,
        { cause: error },
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  #isLoaded(): boolean {
    if (!existsSync(this.#files.loaded)) return false;
    return readFileSync(this.#files.loaded, 'utf8')
      .split('\n')
      .some((line) => line.startsWith(`${defaultApparmorProfile} (`));
  }
}
