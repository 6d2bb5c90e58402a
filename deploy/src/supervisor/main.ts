/** The supervisor as a process: `main.ts <plan.json> [reloaded]`. Started by `flotilla up`, which has the stack's lock and its listening sockets open for it. */
import { reloadedArgument } from '../stack/startCommand.ts';
import { createSupervisorLog } from './log.ts';
import { runSupervisor } from './run.ts';

const planPath = process.argv[2];
if (planPath === undefined) {
  process.stderr.write('this is started by: flotilla up\n');
  process.exit(2);
}
const log = createSupervisorLog();
process.on('uncaughtException', (error) => {
  log.error('uncaught', { error: String(error), stack: error.stack });
  process.exit(1);
});
await runSupervisor(planPath, log, { isReloaded: process.argv[3] === reloadedArgument });
