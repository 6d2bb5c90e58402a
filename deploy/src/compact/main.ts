/**
 * `flotilla up --compact`: the supervisor and the five services in one process, Redis and NATS its children. `main.ts [reloaded] <plan.json> <keeper's pid> <failures>`, started by
 * deploy/keeper.sh, whose child it is.
 */
import { writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { signalAtParentDeath } from '@flotilla/syscalls';
import { compactName } from '../stack/services.ts';
import { reloadedArgument } from '../stack/startCommand.ts';
import { createSupervisorLog } from '../supervisor/log.ts';
import type { OwnPart } from '../supervisor/ownPart.ts';
import { noAnswer } from '../supervisor/probe.ts';
import { type Keeper, runSupervisor } from '../supervisor/run.ts';
import { takeEnvironments } from './environments.ts';
import { endWhenHung } from './hang.ts';
import type { Services } from './services.ts';

const words = process.argv.slice(2);
const [planPath, keeperPid, failures] = words.filter((word) => word !== reloadedArgument);
if (planPath === undefined || keeperPid === undefined) {
  process.stderr.write('this is started by: flotilla up --compact\n');
  process.exit(2);
}

/** The services write to stdout, into their log file; the keeper's own output is the supervisor's. */
const supervisorOutput = 0;
const log = createSupervisorLog((line) => {
  try {
    writeSync(supervisorOutput, line);
  } catch {
    // Nobody reads it, or not quickly enough: no reason to end.
  }
});

let running: Promise<Services> | undefined;
/** Also of services that are still starting. Those that failed to start have stopped. */
const started = async (): Promise<Services | undefined> => running?.catch(() => undefined);
const part: OwnPart = {
  name: compactName,
  async start(env) {
    const { shared, services } = takeEnvironments(env);
    // What the services and their children see is what the plan has for them, not the operator's shell.
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, shared);
    running = import('./services.ts').then(({ startServices }) => startServices(services));
    await running;
  },
  ask: (timeoutMs) =>
    Promise.race([
      started().then(async (services) => {
        if (services === undefined) return noAnswer('starting');
        const reason = await services.unready();
        return { answered: true, healthy: reason === '', reason };
      }),
      pause(timeoutMs, undefined, { ref: false }).then(() => noAnswer(`no answer within ${timeoutMs} ms`)),
    ]),
  stop: async () => (await started())?.lifecycle.stop(),
  drain: async () => (await started())?.lifecycle.drain(),
};

const isKept = (): boolean => process.ppid === Number(keeperPid);
const tell = (signal: NodeJS.Signals): void => {
  if (isKept()) process.kill(Number(keeperPid), signal);
};
const keeper: Keeper = {
  pid: Number(keeperPid),
  failures: Number(failures),
  end: () => tell('SIGUSR1'),
  readAgain: () => tell('SIGUSR2'),
  onDeath(listener) {
    process.on('SIGPWR', listener);
    signalAtParentDeath('SIGPWR');
    // It may have gone while this process started.
    if (!isKept()) listener();
  },
};

process.on('uncaughtException', (error) => {
  log.error('uncaught', { error: String(error), stack: error.stack });
  process.exit(1);
});
process.chdir('/');
endWhenHung();
// The keeper starts it again with the same words, and a reload is told once.
const isReloaded = words.includes(reloadedArgument) && keeper.failures === 0;
await runSupervisor(planPath, log, { isReloaded, kept: { part, keeper } });
