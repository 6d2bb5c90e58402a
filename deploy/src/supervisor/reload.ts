/**
 * SIGHUP: flags and configuration file are read again. The supervisor's process goes on as the next one, by the way an upgrade goes: it lets go of what runs and
 * replaces what is to run otherwise, one replica after another. Containers and clients notice nothing, systemd keeps the pid. Lock and sockets stay open all the
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

export interface NextSupervisor {
  /** Makes this process the next supervisor. */
  begin(): never;
}

/** @throws Error that says why the settings stay as they are: the file cannot be right. */
export async function nextSupervisor(plan: Plan): Promise<NextSupervisor> {
  const { code, args, cwd, env } = readStartCommand(stackPaths(plan));
  const reloading: Reloading = { dataRoot: plan.dataRoot, execRoot: plan.execRoot };
  const nextEnv = { ...env, [reloadingVariable]: JSON.stringify(reloading) };
  const command = `${code}/deploy/flotilla`;
  await validated(command, args, { cwd, env: nextEnv });
  process.chdir(cwd);
  return {
    begin(): never {
      if (process.execve === undefined) throw new Error('a reload needs Node 24');
      for (const fd of heldDescriptors(plan)) keepOnExec(fd);
      // Until the next one listens for it, another SIGHUP must not end the process.
      process.execve('/bin/sh', ['sh', '-c', 'trap "" HUP; exec sh "$@"', 'sh', command, ...args], nextEnv);
      throw new Error('execve came back');
    },
  };
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
