/**
 * Processes without Node's spawn, which copies the parent's page tables and blocks the loop for it. posix_spawn shares them: a quarter of a
 * millisecond whatever the size of this process. The caller reaps what it spawned (waitpid): Node only reaps its own.
 */
import { constants } from 'node:os';
import koffi from 'koffi';
import { checked, cPath, libc, rawSyscall, SyscallError } from './libc.ts';

const spawnCall = libc.func(
  'int posix_spawn(_Out_ int *pid, const char *path, const void *actions, const void *attributes, const char **argv, const char **envp)',
);
const actionsInit = libc.func('int posix_spawn_file_actions_init(void *actions)');
const actionsDestroy = libc.func('int posix_spawn_file_actions_destroy(void *actions)');
const actionsDup2 = libc.func('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)');
const actionsOpen = libc.func(
  'int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned int mode)',
);
const actionsChdir = libc.func('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
const attributesInit = libc.func('int posix_spawnattr_init(void *attributes)');
const attributesDestroy = libc.func('int posix_spawnattr_destroy(void *attributes)');
const attributesSetFlags = libc.func('int posix_spawnattr_setflags(void *attributes, short flags)');
const attributesSetDefault = libc.func('int posix_spawnattr_setsigdefault(void *attributes, const void *signals)');
const attributesSetMask = libc.func('int posix_spawnattr_setsigmask(void *attributes, const void *signals)');
const fillSignals = libc.func('int sigfillset(void *signals)');
const emptySignals = libc.func('int sigemptyset(void *signals)');
const fcntlCall = libc.func('int fcntl(int fd, int command, long argument)');
const closeCall = libc.func('int close(int fd)');
const waitpidCall = libc.func('int waitpid(int pid, _Out_ int *status, int options)');
const killCall = libc.func('int kill(int pid, int signal)');
const pipeCall = libc.func('int pipe2(_Out_ int *ends, int flags)');
const alarmCall = libc.func('unsigned int alarm(unsigned int seconds)');
const prctlCall = libc.func('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');

const spawnFlags = { signalDefault: 0x04, signalMask: 0x08, setsid: 0x80 } as const;
const duplicateCloseOnExec = 1030;
const pidfdOpenNumber = 434;
const setParentDeathSignal = 1;
const closeOnExec = 0x80000;

export interface SpawnOptions {
  /** The child's whole environment; default: this process'. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** The child's descriptor → this process'. 0, 1 and 2 are /dev/null where absent; nothing else is inherited (Node opens all close-on-exec). */
  readonly fds?: Readonly<Record<number, number>>;
  /** In a session of its own. */
  readonly setsid?: boolean;
}

/**
 * Starts a program and does not wait. Signals are at their defaults and none is blocked in the child.
 *
 * @param path - absolute: no search along PATH.
 * @param argv - with the program's own name first.
 * @returns the pid; reap it with `waitpid`.
 * @throws SyscallError ENOENT, EACCES … as execve gives them.
 */
export function posixSpawn(path: string, argv: readonly string[], options: SpawnOptions = {}): number {
  const actions = Buffer.alloc(256);
  const attributes = Buffer.alloc(512);
  const copies: number[] = [];
  checkSpawn(actionsInit(actions), 'posix_spawn_file_actions_init');
  attributesInit(attributes);
  try {
    setSignals(attributes, options.setsid === true);
    addDescriptors(actions, options.fds ?? {}, copies);
    if (options.cwd !== undefined) checkSpawn(actionsChdir(actions, cPath(options.cwd, 'chdir')), 'chdir');
    const pid = [0];
    const strings = argv.map((text) => cPath(text, 'posix_spawn'));
    const environment = Object.entries(options.env ?? process.env)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => cPath(`${name}=${value}`, 'posix_spawn'));
    checkSpawn(spawnCall(pid, cPath(path, 'posix_spawn'), actions, attributes, [...strings, null], [...environment, null]), path);
    return pid[0] ?? 0;
  } finally {
    for (const copy of copies) closeCall(copy);
    actionsDestroy(actions);
    attributesDestroy(attributes);
  }
}

function setSignals(attributes: Buffer, setsid: boolean): void {
  const signals = Buffer.alloc(128);
  // libuv ignores SIGPIPE, and what is ignored stays so through exec.
  fillSignals(signals);
  attributesSetDefault(attributes, signals);
  emptySignals(signals);
  attributesSetMask(attributes, signals);
  attributesSetFlags(attributes, spawnFlags.signalDefault | spawnFlags.signalMask | (setsid ? spawnFlags.setsid : 0));
}

/**
 * Each descriptor is first copied above all the child's numbers, so that {3: 4, 4: 3} does not overwrite one with the other; the copies are
 * close-on-exec and so end with the child's exec.
 */
function addDescriptors(actions: Buffer, fds: Readonly<Record<number, number>>, copies: number[]): void {
  const wanted = Object.entries(fds).map(([child, parent]) => ({ child: Number(child), parent }));
  const above = Math.max(10, ...wanted.map(({ child }) => child + 1));
  for (const { child, parent } of wanted) {
    const copy = checked(fcntlCall(parent, duplicateCloseOnExec, above), 'fcntl', `fd ${parent}`);
    copies.push(copy);
    checkSpawn(actionsDup2(actions, copy, child), 'dup2');
  }
  const readWrite = 2;
  for (const standard of [0, 1, 2]) {
    if (fds[standard] === undefined) checkSpawn(actionsOpen(actions, standard, '/dev/null', readWrite, 0), 'open');
  }
}

/** posix_spawn and its kin return the error number instead of setting errno. */
function checkSpawn(errno: number, subject: string): void {
  if (errno !== 0) throw new SyscallError('posix_spawn', errno, subject);
}

export interface ExitedProcess {
  readonly pid: number;
  /** The exit code; undefined when a signal ended it. */
  readonly code?: number;
  /** The signal's number. */
  readonly signal?: number;
}

/**
 * Reaps a child without waiting for it.
 *
 * @returns undefined while it runs.
 * @throws SyscallError ECHILD when it is no child of this process, or reaped already.
 */
export function waitpid(pid: number): ExitedProcess | undefined {
  const noHang = 1;
  const status = [0];
  const found = checked(waitpidCall(pid, status, noHang), 'waitpid', `${pid}`);
  if (found === 0) return undefined;
  const word = status[0] ?? 0;
  const signal = word & 0x7f;
  return signal === 0 ? { pid: found, code: (word >> 8) & 0xff } : { pid: found, signal };
}

/**
 * Sends a signal by number; 0 only asks whether the process is there. Negative pid: its process group.
 *
 * @returns false when there is no such process.
 */
export function kill(pid: number, signal: number): boolean {
  if (killCall(pid, signal) === 0) return true;
  const error = new SyscallError('kill', koffi.errno(), `${pid}`);
  if (error.errno === constants.errno.ESRCH) return false;
  throw error;
}

/** A descriptor that stands for the process and for no later one with the same number. The caller closes it. */
export function openPidfd(pid: number): number {
  return checked(rawSyscall(pidfdOpenNumber, pid, null, null, 0, 0, 0), 'pidfd_open', `${pid}`);
}

/** A pipe, both ends close-on-exec. */
export function makePipe(): { read: number; write: number } {
  const ends = [0, 0];
  checked(pipeCall(ends, closeOnExec), 'pipe2');
  return { read: ends[0] ?? -1, write: ends[1] ?? -1 };
}

/**
 * alarm(2): SIGALRM comes when so many seconds have passed without another call; 0 takes it back. Node does not listen for it, so it ends the process, also one whose
 * loop does not turn. A child does not inherit it; the program that the process becomes by exec does.
 */
export function setAlarm(seconds: number): void {
  alarmCall(seconds);
}

/** This process gets a signal when its parent ends. Children do not inherit that. A parent that is gone already is not told of: ask for it afterwards. */
export function signalAtParentDeath(signal: NodeJS.Signals): void {
  checked(prctlCall(setParentDeathSignal, constants.signals[signal], 0, 0, 0), 'prctl', signal);
}
