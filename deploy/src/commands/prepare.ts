/**
 * `flotilla prepare`: what `flotilla up` does before its supervisor, for a stack whose processes are containers of another engine (docker-compose.yml). It then
 * waits, with the stack's lock, so that no `flotilla up` starts on the same roots.
 */
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors/classes';
import { keepOnExec } from '@flotilla/syscalls';
import { startFilePath, withdrawStartFile, writeStartFile } from '../composed/startFile.ts';
import type { RawSettings } from '../options/directives.ts';
import { loadSettings, type StackSettings } from '../options/settings.ts';
import { findAccount, findGroup, root } from '../stack/accounts.ts';
import { own } from '../stack/directories.ts';
import { takeLock } from '../stack/lock.ts';
import { stackPaths } from '../stack/paths.ts';
import { prepareStack } from '../stack/prepare.ts';
import { requireProgram } from '../stack/programs.ts';
import { serviceNames } from '../stack/services.ts';

/** On the loopback interface, which the services share. */
const defaultNatsPort = 4322;

const warn = (line: string): void => {
  process.stderr.write(`flotilla: warning: ${line}\n`);
};

/** @throws InvalidParameter for settings that are wrong, or that cannot be met this way. */
export async function prepare(options: { flags: RawSettings; configFile: string | undefined }): Promise<void> {
  const settings = loadSettings(options.flags, options.configFile);
  refuseUnmet(settings);
  const paths = stackPaths(settings);
  mkdirSync(paths.supervisor, { recursive: true, mode: 0o700 });
  const lockFd = takeLock(paths.lock);
  if (lockFd === undefined) throw new InvalidParameter(`flotilla is already running with --exec-root ${paths.execRoot}`);
  for (const name of [...serviceNames, 'redis', 'nats']) withdrawStartFile(startFilePath(paths.execRoot, name));
  const socketDirectory = `${paths.execRoot}/gateway/api`;
  const composed = { listen: `unix:${socketDirectory}/docker.sock`, natsPort: natsPort() };
  const plan = await prepareStack({ settings, paths, lockFd, warn, composed });
  const gateway = findAccount('flotilla-gateway') ?? root;
  // What is made in it gets its group: that of those who may use the engine.
  own(socketDirectory, 0o2711, gateway.uid, findGroup(settings.group) ?? 0);
  rmSync(paths.dockerSocket, { force: true });
  symlinkSync('gateway/api/docker.sock', paths.dockerSocket);
  for (const each of plan.processes) {
    writeStartFile(startFilePath(paths.execRoot, each.name), each, findAccount(each.account) ?? root);
  }
  process.stdout.write(`prepared ${paths.dataRoot} and ${paths.execRoot}\n`);
  keepOnExec(lockFd);
  if (process.execve === undefined) throw new InvalidParameter('flotilla prepare needs Node 24 (run it as deploy/flotilla)');
  process.execve(requireProgram('sleep'), ['sleep', 'infinity'], {});
}

/** Nobody is there to bind a socket, to bound a log, or to copy a file again when it has changed. */
export function refuseUnmet({ hosts, tls, compact, policyFile, hostsFile, engineOptions }: StackSettings): void {
  const unmet = [
    [hosts.length > 0, '--host'],
    [tls !== undefined, '--tls'],
    [compact, '--compact'],
    [policyFile !== undefined, '--policy-file'],
    [hostsFile !== undefined, '--hosts-file'],
    [engineOptions.auditLog !== undefined, '--audit-log'],
  ] as const;
  for (const [given, flag] of unmet) {
    if (given) throw new InvalidParameter(`${flag} is not supported where each service is a container of its own: use flotilla up`);
  }
}

function natsPort(): number {
  const port = Number(process.env.FLOTILLA_NATS_PORT || defaultNatsPort);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidParameter('FLOTILLA_NATS_PORT must be a port');
  return port;
}
