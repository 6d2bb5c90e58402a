/**
 * SIGHUP: flags and configuration file are read again. The supervisor's process goes on as the next one, by the way an upgrade goes: it lets go of what runs and
 * replaces what is to run otherwise, one replica after another; of a compact stack it is the keeper that becomes the next one. Containers and clients notice nothing, systemd keeps the pid. Lock and sockets stay open all the
 * time, so that it can go on with the plan it has when what the settings want cannot be had.
 */
import { spawn } from 'node:child_process';
import { errorMessage } from '@flotilla/errors/classes';
import { keepOnExec } from '@flotilla/syscalls';
import { GrpcSocket } from '../stack/grpcCall.ts';
import { stackPaths } from '../stack/paths.ts';
import { heldDescriptors, type Plan } from '../stack/plan.ts';
import { type Reloading, readStartCommand, reloadingVariable } from '../stack/startCommand.ts';
import type { SupervisorLog } from './log.ts';
import type { ProcessReport } from './supervisor.ts';

const validateMs = 60_000;
const tellMs = 10_000;

/** @throws Error that says why the settings stay as they are: the file cannot be right. */
export async function validateSettings(plan: Plan): Promise<void> {
  const { code, args, cwd, env } = readStartCommand(stackPaths(plan));
  await validated(`${code}/deploy/flotilla`, args, { cwd, env: { ...env, ...reloadingOf(plan) } });
}

function reloadingOf({ dataRoot, execRoot }: Plan): Record<string, string> {
  return { [reloadingVariable]: JSON.stringify({ dataRoot, execRoot } satisfies Reloading) };
}

/** Makes this process, which is the supervisor or its keeper, the `flotilla up` that it was before, and so the next one. */
export function becomeNext(plan: Plan): never {
  const { code, args, cwd, env } = readStartCommand(stackPaths(plan));
  if (process.execve === undefined) throw new Error('a reload needs Node 24');
  process.chdir(cwd);
  for (const fd of heldDescriptors(plan)) keepOnExec(fd);
  // Until the next one listens for it, another SIGHUP must not end the process.
  const command = ['sh', '-c', 'trap "" HUP; exec sh "$@"', 'sh', `${code}/deploy/flotilla`, ...args];
  process.execve('/bin/sh', command, { ...env, ...reloadingOf(plan) });
  throw new Error('execve came back');
}

function validated(command: string, args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', [command, ...args, '--validate'], { ...options, stdio: ['ignore', 'ignore', 'pipe'], timeout: validateMs });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => {
      complaint += chunk.toString();
    });
    child.once('error', (error) => reject(new Error(errorMessage(error))));
    child.once('close', (code) => (code === 0 ? resolve() : reject(new Error(complaint.trim() || `exit code ${code}`))));
  });
}

/** The new settings are in force: whoever keeps the containers tells so, `docker events` as a reload of the daemon. */
export async function tellReload(processes: readonly ProcessReport[], log: SupervisorLog): Promise<void> {
  const sockets = processes.flatMap(({ callSockets }) => callSockets).filter((path) => path.includes('/container-service/'));
  let failure: unknown = new Error('no container-service runs');
  for (const path of sockets) {
    const socket = new GrpcSocket(path);
    try {
      await socket.call('/flotilla.container.v1.Containers/Reloaded', tellMs);
      return;
    } catch (error) {
      failure = error;
    } finally {
      socket.close();
    }
  }
  log.error('the reload could not be told', { error: errorMessage(failure) });
}
