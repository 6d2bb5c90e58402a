/** The supervisor's life: from the plan that `flotilla up` has written to the end of the stack, or until another one takes over. */
import { spawn } from 'node:child_process';
import { closeSync, rmSync, writeFileSync } from 'node:fs';
import { errorMessage } from '@flotilla/errors/classes';
import { settleAfterStart } from '@flotilla/service-kit/settle';
import { dropOnExec } from '@flotilla/syscalls';
import { stackPaths } from '../stack/paths.ts';
import { heldDescriptors, readPlan } from '../stack/plan.ts';
import { type ControlRequest, serveControl } from './control.ts';
import type { SupervisorLog } from './log.ts';
import type { OwnPart } from './ownPart.ts';
import { becomeNext, tellReload, validateSettings } from './reload.ts';
import { Supervisor } from './supervisor.ts';

/** How a supervisor that is not a process of its own is kept. */
export interface Kept {
  /** The five services, in this process. */
  readonly part: OwnPart;
  readonly keeper: Keeper;
}

/** The parent that starts this process again (deploy/keeper.sh); to the outside it is the supervisor. */
export interface Keeper {
  readonly pid: number;
  /** How often in a row its process has ended early. */
  readonly failures: number;
  /** It ends, and with it the lock. */
  end(): void;
  /** It becomes the `flotilla up` that reads the settings again, and then the next process' keeper. */
  readAgain(): void;
  onDeath(listener: () => void): void;
}

/** How long the last answer may take to its client; the lock goes with the process. */
const lastWordsMs = 20;

export interface RunOptions {
  /** It was another one before, and has new settings: that is told. */
  readonly isReloaded: boolean;
  readonly kept?: Kept;
}

/** Runs the supervisor in this process. */
export async function runSupervisor(planPath: string, log: SupervisorLog, { isReloaded, kept }: RunOptions): Promise<void> {
  const inherited = { ...process.env };
  const plan = readPlan(planPath);
  // The lock must go with this process, not with the last container; Node forgets descriptors above a gap.
  for (const fd of heldDescriptors(plan)) dropOnExec(fd);
  const supervisor = new Supervisor(plan, log, kept);
  const pid = kept?.keeper.pid ?? process.pid;
  const exitSoon = (): void => void setTimeout(() => process.exit(0), lastWordsMs);

  const stopAndExit = async (progress?: (line: string) => void): Promise<void> => {
    await supervisor.stop(progress);
    if (plan.pidFile !== undefined) rmSync(plan.pidFile, { force: true });
    log.info('stack stopped');
    exitSoon();
  };
  let isLeft = false;
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    signals++;
    if (signals > 1) process.exit(130);
    log.info('stopping', { signal });
    void (isLeft ? kept?.part.stop().then(exitSoon) : stopAndExit());
  };
  process.on('SIGTERM', onSignal);
  // A terminal sends it to the keeper as well, which passes it on.
  process.on('SIGINT', kept === undefined ? onSignal : () => undefined);

  /** Another one takes over; a process that has services of its own serves on until that one has it end. */
  const leave = (): void => {
    const serves = supervisor.report().some((one) => one.pid === process.pid && one.healthy);
    supervisor.leave();
    if (kept === undefined) return;
    isLeft = true;
    // What did not come up is of no use to anybody.
    if (!serves) exitSoon();
    control.close();
    closeSync(plan.lockFd);
    process.once('SIGUSR2', (signal) => {
      log.info('draining', { signal });
      void kept.part.drain().then(exitSoon);
    });
  };
  let reloading = false;
  const reload = async (): Promise<void> => {
    if (reloading || isLeft || supervisor.isStopping) return;
    reloading = true;
    const isValid = await validateSettings(plan).then(
      () => true,
      (error: unknown) => {
        log.error('settings stay as they are', { error: errorMessage(error) });
        return false;
      },
    );
    reloading = false;
    if (!isValid || isLeft || supervisor.isStopping) return;
    log.info('settings are read again');
    leave();
    if (kept === undefined) becomeNext(plan);
    kept.keeper.readAgain();
  };
  process.on('SIGHUP', () => void reload());

  const handle = async (request: ControlRequest, progress: (line: string) => void): Promise<unknown> => {
    switch (request.command) {
      case 'ps':
        return {
          pid,
          version: plan.version,
          healthy: supervisor.healthy,
          renewal: supervisor.renewal,
          counts: supervisor.counts(),
          failures: supervisor.failures(),
          processes: supervisor.report(),
        };
      case 'scale':
        return supervisor.scale(request.counts);
      case 'restart':
        return supervisor.restart(request.service);
      case 'leave':
        log.info('leaving the stack to the next supervisor');
        leave();
        if (kept === undefined) exitSoon();
        else kept.keeper.end();
        return undefined;
      case 'down':
        log.info('stopping', { asked: 'down' });
        return stopAndExit(progress);
    }
  };
  const control = await serveControl(stackPaths(plan).control, handle, log);
  kept?.keeper.onDeath(() => {
    if (isLeft || supervisor.isStopping) return;
    log.warn('the keeper is gone; the services go on until the next `flotilla up` takes over');
    leave();
  });
  if (plan.pidFile !== undefined) writeFileSync(plan.pidFile, `${pid}`, { mode: 0o644 });
  log.info('supervisor started', { pid, engineId: plan.engineId, dataRoot: plan.dataRoot, execRoot: plan.execRoot });
  if (isLeft) return;
  await supervisor.start();
  const healthy = await supervisor.untilHealthy(120_000);
  settleAfterStart(log);
  if (healthy && isReloaded && typeof supervisor.renewal === 'string') await tellReload(supervisor.report(), log);
  if (!healthy || inherited.NOTIFY_SOCKET === undefined) return;
  spawn('systemd-notify', ['--ready', `--pid=${pid}`], { stdio: 'ignore', env: inherited }).on('error', () => undefined);
}
