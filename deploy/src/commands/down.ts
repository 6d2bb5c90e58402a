/** `flotilla down`: stops every process of the stack, through its supervisor or, where that was killed, by what it had written down. */
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { isUnavailable, Unavailable } from '@flotilla/errors/classes';
import { askReport, callSupervisor } from '../stack/controlClient.ts';
import { takeLock } from '../stack/lock.ts';
import { type Roots, type StackPaths, stackPaths } from '../stack/paths.ts';
import { clearStack } from '../supervisor/clear.ts';
import { endKeeper } from '../supervisor/keeper.ts';
import { isAlive, startTimeOf, stopLeft, waitGone } from '../supervisor/process.ts';
import { readState } from '../supervisor/state.ts';

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

export async function down(roots: Roots): Promise<void> {
  const paths = stackPaths(roots);
  try {
    const { pid } = await askReport(paths.control);
    const startTime = startTimeOf(pid);
    await callSupervisor(paths.control, { command: 'down' }, say);
    if (startTime !== undefined) await waitGone({ pid, startTime }, 10_000);
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    if (!(await stopOrphans(paths))) say('flotilla is not running');
  }
}

/** Stops what a killed supervisor left; answers whether there was anything. */
async function stopOrphans(paths: StackPaths): Promise<boolean> {
  const state = readState(paths.state);
  if (state === undefined || !existsSync(paths.lock)) return false;
  await endKeeper(paths);
  if (!(await isUnlocked(paths))) throw new Unavailable('the supervisor is busy and does not answer; try again');
  const alive = state.processes.filter(isAlive);
  for (const stage of new Set(alive.map((process) => process.stopStage).sort())) {
    await Promise.all(
      alive
        .filter((process) => process.stopStage === stage)
        .map(async (process) => {
          await stopLeft(process);
          say(`${process.name} stopped`);
        }),
    );
  }
  clearStack(paths, state.listeners);
  return true;
}

/** Takes the lock, which a process that has just been told to leave may hold for another moment. */
async function isUnlocked(paths: StackPaths): Promise<boolean> {
  for (let tries = 0; tries < 20; tries++) {
    if (takeLock(paths.lock) !== undefined) return true;
    await pause(50);
  }
  return false;
}
