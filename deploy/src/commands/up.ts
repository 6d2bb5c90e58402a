/** `flotilla up`: prepares the stack, starts its supervisor, and returns when every service is healthy. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { errorMessage, InvalidParameter, isUnavailable, Unavailable } from '@flotilla/errors/classes';
import { arrangeForExec, dropOnExec } from '@flotilla/syscalls';
import type { RawSettings } from '../options/directives.ts';
import { loadSettings } from '../options/settings.ts';
import { bundleOf } from '../stack/bundle.ts';
import { copyCertificate } from '../stack/certificates.ts';
import { askReport, type StackReport } from '../stack/controlClient.ts';
import { firstPassedFd } from '../stack/listeners.ts';
import { takeLock } from '../stack/lock.ts';
import { codeRoot, type StackPaths, stackPaths } from '../stack/paths.ts';
import { heldDescriptors, type Plan, readPlan, renumbered, writePlan } from '../stack/plan.ts';
import { prepareStack } from '../stack/prepare.ts';
import { allocatorSettings } from '../stack/processes.ts';
import { compactName } from '../stack/services.ts';
import { type Reloading, reloadedArgument, takeReloading, writeStartCommand } from '../stack/startCommand.ts';
import { createSupervisorLog } from '../supervisor/log.ts';
import { startTimeOf } from '../supervisor/process.ts';
import { tailOf } from './logs.ts';

export interface UpOptions {
  readonly flags: RawSettings;
  readonly configFile: string | undefined;
  readonly foreground: boolean;
  /** Only says whether the settings can be right. */
  readonly validate: boolean;
}

const supervisorMain = 'deploy/src/supervisor/main.ts';
/** No flag of V8's beyond these: compiled code is kept for one set of flags. */
const supervisorFlags = ['--max-semi-space-size=1', '--max-old-space-size=96'];
const readyMs = 120_000;
const pollMs = 40;
/** A service that ended so often in a row will not come up by waiting. */
const hopelessAfter = 5;

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const warn = (line: string): void => {
  process.stderr.write(`flotilla: warning: ${line}\n`);
};

/** @throws InvalidParameter for wrong settings; Unavailable when the stack does not become healthy. */
export async function up(options: UpOptions): Promise<void> {
  const reloading = takeReloading();
  if (reloading !== undefined && !options.validate) return reload(options, reloading);
  const settings = loadSettings(options.flags, options.configFile);
  if (reloading !== undefined) requireSameRoots(settings, reloading);
  if (options.validate) {
    process.stderr.write('configuration OK\n');
    return;
  }
  if (process.getuid?.() !== 0) throw new InvalidParameter('flotilla up needs root: it mounts file systems and makes namespaces');
  const paths = stackPaths(settings);
  const startedMs = performance.now();
  mkdirSync(paths.execRoot, { recursive: true, mode: 0o711 });
  mkdirSync(paths.supervisor, { recursive: true, mode: 0o700 });
  const lockFd = takeLock(paths.lock);
  if (lockFd === undefined) {
    if (options.foreground) throw new InvalidParameter(`flotilla is already running with --exec-root ${paths.execRoot}`);
    await awaitHealthy(paths, undefined, startedMs);
    say('flotilla was already running; options of a running stack change with `flotilla down` and `flotilla up`');
    return;
  }
  const plan = await prepareStack({ settings, paths, lockFd, warn });
  writeStartCommand(paths);
  const command = await supervisorCommand(plan, paths);
  if (options.foreground) becomeSupervisor(plan, paths, command);
  const pid = await startSupervisor(plan, paths, command);
  await awaitHealthy(paths, pid, startedMs);
  for (const listener of plan.listeners) say(`listening on ${listener.address}`);
}

function requireSameRoots(settings: Reloading, { dataRoot, execRoot }: Reloading): void {
  if (dataRoot !== settings.dataRoot || execRoot !== settings.execRoot)
    throw new InvalidParameter('data-root and exec-root of a running stack cannot be changed');
}

/** The supervisor of a compact stack is in the process of its services, which a shell keeps. */
async function supervisorCommand({ processes }: Plan, paths: StackPaths): Promise<string[]> {
  const compact = processes.find(({ name }) => name === compactName);
  if (compact !== undefined) return ['/bin/sh', join(codeRoot, 'deploy/keeper.sh'), compact.log, paths.plan, ...compact.command];
  return [process.execPath, ...supervisorFlags, join(codeRoot, await bundleOf(supervisorMain, 'supervisor', warn)), paths.plan];
}

/** This process was the stack's supervisor, and is again: with new settings, or with the plan it had when what they want cannot be had. */
async function reload(options: UpOptions, reloading: Reloading): Promise<never> {
  const paths = stackPaths(reloading);
  const plan = readPlan(paths.plan);
  // Those that are needed no more go with this program.
  for (const fd of heldDescriptors(plan)) dropOnExec(fd);
  try {
    const settings = loadSettings(options.flags, options.configFile);
    requireSameRoots(settings, reloading);
    const next = await prepareStack({ settings, paths, lockFd: plan.lockFd, held: plan.listeners, warn });
    becomeSupervisor(next, paths, [...(await supervisorCommand(next, paths)), reloadedArgument]);
  } catch (error) {
    const log = createSupervisorLog();
    log.error('settings stay as they are', { error: errorMessage(error) });
    for (const copy of plan.tlsCopies) {
      await copyCertificate(copy).catch((unread: unknown) => log.error('certificate cannot be renewed', { error: errorMessage(unread) }));
    }
    becomeSupervisor(plan, paths, await supervisorCommand(plan, paths));
  }
}

/** This very process goes on as the supervisor: systemd keeps its pid, and nothing of the command line stays in memory. */
function becomeSupervisor(plan: Plan, paths: StackPaths, command: readonly string[]): never {
  writePlan(paths.plan, renumbered(plan, firstPassedFd));
  const inherited = Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined));
  const [program = ''] = command;
  if (process.execve === undefined) throw new InvalidParameter('--foreground needs Node 24 (run it as deploy/flotilla)');
  arrangeForExec(heldDescriptors(plan), firstPassedFd);
  process.execve(program, [...command], { ...inherited, ...allocatorSettings });
  throw new Error('execve came back');
}

/** A supervisor of its own session, with the sockets and the lock from descriptor 3 on. */
async function startSupervisor(plan: Plan, paths: StackPaths, command: readonly string[]): Promise<number> {
  writePlan(paths.plan, renumbered(plan, firstPassedFd));
  const [program = '', ...args] = command;
  const log = openSync(`${paths.logs}/supervisor.log`, 'a', 0o640);
  const child = spawn(program, args, {
    cwd: '/',
    env: { ...process.env, ...allocatorSettings },
    detached: true,
    stdio: ['ignore', log, log, ...heldDescriptors(plan)],
  });
  closeSync(log);
  // Ours are copies; the supervisor's hold the lock and the sockets from here on.
  for (const fd of heldDescriptors(plan)) closeSync(fd);
  if (child.pid === undefined) {
    throw new Unavailable(
      `the supervisor cannot be started: ${(await new Promise<Error>((resolve) => child.once('error', resolve))).message}`,
    );
  }
  child.unref();
  return child.pid;
}

/** Follows the supervisor's reports and says each service once, when it is healthy. */
async function awaitHealthy(paths: StackPaths, supervisorPid: number | undefined, startedMs: number): Promise<void> {
  const told = new Set<string>();
  let last: StackReport | undefined;
  // Each replacement has its own time; what is left to wait for begins behind the last.
  let sinceMs = startedMs;
  while (performance.now() - sinceMs < readyMs) {
    last = await reportOf(paths, supervisorPid);
    if (last?.renewal === 'running') sinceMs = performance.now();
    for (const process of last?.processes ?? []) {
      if (!process.healthy || process.outdated || told.has(process.instance)) continue;
      told.add(process.instance);
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      say(`${process.service.padEnd(18)} healthy   pid ${process.pid}, ${seconds} s`);
    }
    if (typeof last?.renewal === 'object') throw new Unavailable(`not every service could be replaced: ${last.renewal.failed}`);
    // Before the replacement begins, too, what is to be replaced is healthy.
    if (last?.healthy === true && last.renewal !== 'running' && !last.processes.some(({ outdated, draining }) => outdated && !draining))
      return;
    if (Object.values(last?.failures ?? {}).some((failures) => failures >= hopelessAfter)) {
      throw new Unavailable(`a service does not stay up:\n${explain(paths, last)}`);
    }
    await pause(pollMs);
  }
  throw new Unavailable(`not every service is healthy after ${readyMs / 1000} s:\n${explain(paths, last)}`);
}

async function reportOf(paths: StackPaths, supervisorPid: number | undefined): Promise<StackReport | undefined> {
  try {
    return await askReport(paths.control);
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    if (supervisorPid !== undefined && startTimeOf(supervisorPid) === undefined) {
      throw new Unavailable(
        `the supervisor ended (${errorMessage(error)}); its last words:\n${tailOf(`${paths.logs}/supervisor.log`, 10)}`,
      );
    }
    return undefined;
  }
}

function explain(paths: StackPaths, report: StackReport | undefined): string {
  if (report === undefined) return `the supervisor does not answer; its last words:\n${tailOf(`${paths.logs}/supervisor.log`, 10)}`;
  const running = new Set(report.processes.filter((process) => process.healthy).map((process) => process.service));
  return Object.keys(report.counts)
    .filter((name) => !running.has(name as never))
    .map((name) => {
      const reason = report.processes.find((process) => process.service === name)?.reason ?? 'does not stay up';
      return `${name}: ${reason}; the end of ${paths.logs}/${name}.log:\n${tailOf(`${paths.logs}/${name}.log`, 12)}`;
    })
    .join('\n');
}
