/**
 * conmon, the monitor of podman and CRI-O: the parent of each container and exec. It holds the stdio or the terminal, writes the log and the exit
 * file, and outlives this service: it daemonises, and it is started without Node's spawn, which would copy this process' page tables.
 *
 * Two pipes speak with it while it starts: the sync pipe (JSON lines from it) and the start pipe (it waits for a byte before it does anything).
 */
import { closeSync, constants, openSync, readFileSync, symlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { closeDescriptor, kill, makePipe, posixSpawn } from '@flotilla/syscalls';
import { type ExecMonitorOptions, type Monitored, type MonitorOptions, RuntimeFailure, type WaitingMonitor } from '../monitor.ts';
import { reap } from './reap.ts';
import { openRuntimeNamespace } from './runtimeNamespace.ts';

/** Names the mount namespace for the runtime's command. */
export const namespaceVariable = 'FLOTILLA_RUNTIME_NAMESPACE';

const conmonPath = '/usr/bin/conmon';
/** Long enough for a runtime on a machine that swaps; a stuck one must not hold the container's lease for ever. */
const startDeadlineMs = 120_000;
const syncDescriptor = 3;
const startDescriptor = 4;
const attachDescriptor = 5;

function conmonArguments(options: MonitorOptions): string[] {
  return [
    'conmon',
    '--api-version',
    '1',
    '--cid',
    options.id,
    '--cuuid',
    options.session,
    '--runtime',
    options.command,
    '--bundle',
    options.bundle,
    '--container-pidfile',
    join(options.bundle, 'pid'),
    '--conmon-pidfile',
    join(options.bundle, 'monitor.pid'),
    '--exit-dir',
    options.exitDirectory,
    '--log-path',
    options.logPath === undefined ? 'none:' : `k8s-file:${options.logPath}`,
    '--full-attach',
    '--no-sync-log',
    ...(options.terminal ? ['--terminal'] : []),
    ...(options.stdin ? ['--stdin'] : []),
    ...(options.leaveStdinOpen ? ['--leave-stdin-open'] : []),
  ];
}

/** Its log lines carry UTC times at fixed offsets; the runtime finds its helpers along PATH. */
function environment(extra: Record<string, string>): Record<string, string> {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', TZ: 'UTC', ...extra };
}

/** Reads JSON documents from a pipe, one after another, however they share reads. */
class SyncPipe {
  private readonly socket: Socket;
  private readonly documents: { data: number; message?: string }[] = [];
  private text = '';
  private ended = false;
  private wake: (() => void) | undefined;

  constructor(fd: number) {
    this.socket = new Socket({ fd, readable: true, writable: false });
    this.socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('utf8');
      for (let end = this.text.indexOf('\n'); end >= 0; end = this.text.indexOf('\n')) {
        this.documents.push(JSON.parse(this.text.slice(0, end)));
        this.text = this.text.slice(end + 1);
      }
      this.wake?.();
    });
    const finish = (): void => {
      this.ended = true;
      this.wake?.();
    };
    this.socket.on('end', finish).on('close', finish).on('error', finish);
  }

  /** @returns undefined when the writer is gone. */
  async next(deadlineMs: number): Promise<{ data: number; message?: string } | undefined> {
    const end = Date.now() + deadlineMs;
    for (;;) {
      const document = this.documents.shift();
      if (document !== undefined) return document;
      if (this.ended) return undefined;
      const left = end - Date.now();
      if (left <= 0) throw new RuntimeFailure('the OCI runtime did not answer in time');
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  close(): void {
    this.socket.destroy();
  }
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trim().split('\n').at(-1) ?? '';
}

function readPid(path: string): number {
  const pid = Number.parseInt(readFileSync(path, 'utf8'), 10);
  if (!Number.isInteger(pid) || pid <= 0) throw new RuntimeFailure('the monitor wrote no process id');
  return pid;
}

function expectPid(document: { data: number; message?: string } | undefined): number {
  if (document === undefined) throw new RuntimeFailure('the OCI runtime ended without an answer');
  if (document.data <= 0) throw new RuntimeFailure(document.message?.trim() || `the OCI runtime failed (${document.data})`);
  return document.data;
}

/** Puts a monitor where it outlives this service, before it does anything. */
export type Place = (pid: number) => Promise<void>;

/**
 * Spawns a container's conmon. It comes up while the bundle is still being written; the word to start lets it go on.
 */
export function spawnMonitor(options: MonitorOptions, place: Place): WaitingMonitor {
  const syncEnds = makePipe();
  const startEnds = makePipe();
  const namespace = join(options.bundle, 'namespace');
  const sync = new SyncPipe(syncEnds.read);
  const starter = new Socket({ fd: startEnds.write, readable: false, writable: true });
  starter.on('error', () => starter.destroy());
  // conmon ends when nobody can read its answer, and would leave the container to itself: it gets the reading end too, so that it outlives us from the start.
  const syncFd = openSync(`/proc/self/fd/${syncEnds.write}`, constants.O_RDWR);
  closeDescriptor(syncEnds.write);
  // What conmon itself complains of: the only trace when it ends without an answer.
  const complaints = join(options.bundle, 'monitor.log');
  const complaintsFd = openSync(complaints, 'w', 0o600);
  let pid: number;
  try {
    pid = posixSpawn(conmonPath, conmonArguments(options), {
      env: environment({
        _OCI_SYNCPIPE: `${syncDescriptor}`,
        _OCI_STARTPIPE: `${startDescriptor}`,
        ...(options.ownNamespace ? { [namespaceVariable]: namespace } : {}),
      }),
      fds: { 2: complaintsFd, [syncDescriptor]: syncFd, [startDescriptor]: startEnds.read },
      cwd: options.bundle,
      setsid: true,
    });
  } catch (error) {
    sync.close();
    starter.destroy();
    throw error;
  } finally {
    closeSync(syncFd);
    closeDescriptor(startEnds.read);
    closeSync(complaintsFd);
  }
  // Its first process ends as soon as it has forked; the second is init's child.
  void reap(pid);
  const placed = place(pid);
  // Told of by start.
  placed.catch(() => undefined);
  let told = false;
  return {
    async start() {
      await placed;
      told = true;
      const own = options.ownNamespace ? openRuntimeNamespace() : undefined;
      try {
        if (own !== undefined) symlinkSync(own.path, namespace);
        starter.end('0');
        const answer = await sync.next(startDeadlineMs);
        if (answer === undefined) throw new RuntimeFailure(`the OCI runtime ended without an answer. ${lastLine(complaints)}`.trim());
        return { pid: expectPid(answer), monitorPid: readPid(join(options.bundle, 'monitor.pid')) };
      } finally {
        own?.close();
        sync.close();
      }
    },
    abandon() {
      if (told) return;
      told = true;
      kill(pid, 9);
      starter.destroy();
      sync.close();
    },
  };
}

/** Runs `start` with the runtime's namespace in the environment, where it needs one. */
async function inNamespace<T>({ ownNamespace }: MonitorOptions, start: (env: Record<string, string>) => Promise<T>): Promise<T> {
  if (!ownNamespace) return await start({});
  const namespace = openRuntimeNamespace();
  try {
    return await start({ [namespaceVariable]: namespace.path });
  } finally {
    namespace.close();
  }
}

/**
 * Starts an exec.
 *
 * @param connect - called when the attach socket is there and before the process starts, so that no output is lost.
 * @throws RuntimeFailure with the runtime's own words.
 */
export async function startExec(options: ExecMonitorOptions, connect: () => Promise<void>, place: Place): Promise<Monitored> {
  return await inNamespace(options, (env) => startExecIn(options, env, connect, place));
}

async function startExecIn(
  options: ExecMonitorOptions,
  env: Record<string, string>,
  connect: () => Promise<void>,
  place: Place,
): Promise<Monitored> {
  const sync = makePipe();
  const start = makePipe();
  const attach = makePipe();
  const syncPipe = new SyncPipe(sync.read);
  const attachPipe = new SyncPipe(attach.read);
  const starter = new Socket({ fd: start.write, readable: false, writable: true });
  starter.on('error', () => starter.destroy());
  try {
    let pid: number;
    try {
      const argv = [
        ...conmonArguments(options),
        '--exec',
        '--exec-process-spec',
        options.processSpec,
        ...(options.attach ? ['--exec-attach'] : []),
      ];
      pid = posixSpawn(conmonPath, argv, {
        env: environment({
          ...env,
          _OCI_SYNCPIPE: `${syncDescriptor}`,
          _OCI_STARTPIPE: `${startDescriptor}`,
          ...(options.attach ? { _OCI_ATTACHPIPE: `${attachDescriptor}` } : {}),
        }),
        fds: options.attach
          ? { [syncDescriptor]: sync.write, [startDescriptor]: start.read, [attachDescriptor]: attach.write }
          : { [syncDescriptor]: sync.write, [startDescriptor]: start.read },
        cwd: options.bundle,
        setsid: true,
      });
    } finally {
      closeDescriptor(sync.write);
      closeDescriptor(start.read);
      closeDescriptor(attach.write);
    }
    void reap(pid);
    try {
      await place(pid);
    } catch (error) {
      // The closed pipe would let it go on.
      kill(pid, 9);
      throw error;
    }
    starter.write('0');
    if (options.attach) {
      if ((await attachPipe.next(startDeadlineMs)) === undefined) expectPid(await syncPipe.next(1000));
      await connect();
      starter.write('0');
    }
    const processPid = expectPid(await syncPipe.next(startDeadlineMs));
    return { pid: processPid, monitorPid: readPid(join(options.bundle, 'monitor.pid')) };
  } finally {
    starter.end();
    syncPipe.close();
    attachPipe.close();
  }
}
