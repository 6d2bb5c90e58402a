/** The supervisor as a process: `main.ts <plan.json>`. Started by `flotilla up`, which has the stack's lock and its listening sockets open for it. */
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { errorMessage } from '@flotilla/errors/classes';
import { settleAfterStart } from '@flotilla/service-kit/settle';
import { dropOnExec } from '@flotilla/syscalls';
import { stackPaths } from '../stack/paths.ts';
import { heldDescriptors, readPlan } from '../stack/plan.ts';
import { reloadedArgument } from '../stack/startCommand.ts';
import { type ControlRequest, serveControl } from './control.ts';
import { createSupervisorLog } from './log.ts';
import { nextSupervisor, tellReload } from './reload.ts';
import { Supervisor } from './supervisor.ts';

const log = createSupervisorLog();

async function main(planPath: string): Promise<void> {
  const plan = readPlan(planPath);
  // The lock must go with this process, not with the last container; Node forgets descriptors above a gap.
  for (const fd of heldDescriptors(plan)) dropOnExec(fd);
  const supervisor = new Supervisor(plan, log);

  const stopAndExit = async (progress?: (line: string) => void): Promise<void> => {
    await supervisor.stop(progress);
    if (plan.pidFile !== undefined) rmSync(plan.pidFile, { force: true });
    log.info('stack stopped');
    // What was said to the last client is still on its way; the lock goes with the process.
    setTimeout(() => process.exit(0), 20);
  };
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    signals++;
    if (signals > 1) process.exit(130);
    log.info('stopping', { signal });
    void stopAndExit();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  let reloading = false;
  const reload = async (): Promise<void> => {
    if (reloading || supervisor.isStopping) return;
    reloading = true;
    const next = await nextSupervisor(plan).catch((error: unknown) => {
      log.error('settings stay as they are', { error: errorMessage(error) });
    });
    reloading = false;
    if (next === undefined || supervisor.isStopping) return;
    log.info('settings are read again');
    supervisor.leave();
    next.begin();
  };
  process.on('SIGHUP', () => void reload());

  const handle = async (request: ControlRequest, progress: (line: string) => void): Promise<unknown> => {
    switch (request.command) {
      case 'ps':
        return {
          pid: process.pid,
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
        supervisor.leave();
        setTimeout(() => process.exit(0), 20);
        return undefined;
      case 'down':
        log.info('stopping', { asked: 'down' });
        return stopAndExit(progress);
    }
  };
  await serveControl(stackPaths(plan).control, handle, log);
  if (plan.pidFile !== undefined) writeFileSync(plan.pidFile, `${process.pid}`, { mode: 0o644 });
  log.info('supervisor started', { pid: process.pid, engineId: plan.engineId, dataRoot: plan.dataRoot, execRoot: plan.execRoot });
  await supervisor.start();
  const healthy = await supervisor.untilHealthy(120_000);
  settleAfterStart(log);
  if (healthy && process.argv[3] === reloadedArgument && typeof supervisor.renewal === 'string') await tellReload(supervisor.report(), log);
  if (!healthy || process.env.NOTIFY_SOCKET === undefined) return;
  spawn('systemd-notify', ['--ready', `--pid=${process.pid}`], { stdio: 'ignore' }).on('error', () => undefined);
}

const planPath = process.argv[2];
if (planPath === undefined) {
  process.stderr.write('this is started by: flotilla up\n');
  process.exit(2);
}
process.on('uncaughtException', (error) => {
  log.error('uncaught', { error: String(error), stack: error.stack });
  process.exit(1);
});
await main(planPath);
