/** Everything that `up` does before the supervisor runs: checks, engine id, secrets, directories, configuration files, sockets. Ends in a plan. */
import { randomUUID } from 'node:crypto';
import { chownSync, closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { InvalidParameter } from '@flotilla/errors/classes';
import rootPackage from '../../../package.json' with { type: 'json' };
import type { StackSettings } from '../options/settings.ts';
import { isAlive } from '../supervisor/process.ts';
import { readState, type StackState } from '../supervisor/state.ts';
import { type Account, findAccount, root } from './accounts.ts';
import { bundleOf } from './bundle.ts';
import { certificateCopies, copyCertificate, hostsCopies, hostsPath, policyCopies, policyPath, tlsOptions } from './certificates.ts';
import { mountCode } from './codeMount.ts';
import { type Accounts, canReach, makeDirectories } from './directories.ts';
import { openListeners } from './listeners.ts';
import { natsConfig } from './natsConfig.ts';
import { outsideNats, outsideRedis } from './outsideEngines.ts';
import { writeOwnedFile } from './ownedFile.ts';
import { codeRoot, type StackPaths } from './paths.ts';
import type { Listener, Plan } from './plan.ts';
import { type EngineAddress, planProcesses } from './processes.ts';
import { redisConfig, redisUsers } from './redisConfig.ts';
import { openSecrets } from './secrets.ts';

const compactMain = 'deploy/src/compact/main.ts';

export const version: string = rootPackage.version;

export interface PrepareOptions {
  readonly settings: StackSettings;
  readonly paths: StackPaths;
  readonly lockFd: number;
  /** The sockets that this process has open as the stack's supervisor. */
  readonly held?: readonly Listener[] | undefined;
  readonly warn: (line: string) => void;
  /** Each process is a container of another engine: where the gateway listens, and the port of its nats-server. */
  readonly composed?: { readonly listen: string; readonly natsPort: number } | undefined;
}

/** @throws InvalidParameter when something the stack needs cannot be had. */
export async function prepareStack({ settings, paths, lockFd, held, warn, composed }: PrepareOptions): Promise<Plan> {
  const before = readState(paths.state);
  const accounts = settings.compact ? { ...findAccounts(warn), gateway: root, registry: root } : findAccounts(warn);
  makeDirectories(paths, accounts);
  for (const path of [paths.dataRoot, paths.execRoot]) {
    for (const account of [accounts.gateway, accounts.registry, accounts.redis, accounts.nats]) {
      if (!canReach(path, account))
        throw new InvalidParameter(
          `${path} cannot be reached by user ${account.name}: every directory above it must be passable (chmod o+x)`,
        );
    }
  }
  const engineId = openEngineId(paths.engineId);
  const secrets = openSecrets(paths.secrets);
  const redis = outsideRedis(process.env) ?? ({ kind: 'own', url: `unix://${paths.redisSocket}` } satisfies EngineAddress);
  const natsPort = composed?.natsPort ?? (await choosePort(before));
  const nats = outsideNats(process.env) ?? ({ kind: 'own', url: `nats://127.0.0.1:${natsPort}` } satisfies EngineAddress);
  const users = redisUsers(engineId, secrets);
  const redisText = redisConfig({ data: paths.redisData, socket: paths.redisSocket, users: paths.redisUsers });
  const natsText = natsConfig({ port: natsPort, store: paths.natsData, engineId, secrets });
  if (redis.kind === 'own') {
    writeOwnedFile(paths.redisUsers, users, accounts.redis);
    writeOwnedFile(paths.redisConf, redisText, accounts.redis);
  }
  if (nats.kind === 'own') writeOwnedFile(paths.natsConf, natsText, accounts.nats);
  const tlsCopies = [
    ...certificateCopies(settings.tls, paths, accounts.gateway),
    ...policyCopies(settings.policyFile, paths, accounts.gateway),
    ...hostsCopies(settings.hostsFile, paths, accounts.gateway),
  ];
  if (settings.engineOptions.auditLog !== undefined) openAuditLog(settings.engineOptions.auditLog, accounts.gateway);
  for (const copy of tlsCopies) await copyCertificate(copy);
  const reachable = composed !== undefined || [accounts.gateway, accounts.registry].every((account) => canReach(codeRoot, account));
  const codeMount = reachable ? undefined : mountCode(codeRoot, paths.code);
  const listeners = composed === undefined ? await openListeners(settings, paths, before, held, warn) : [];
  const processes = planProcesses({
    paths,
    accounts,
    engineId,
    secrets,
    redis,
    nats,
    natsPort,
    engineConfigs: { redis: redisText + users, nats: natsText },
    engineOptions: {
      ...settings.engineOptions,
      hosts: composed === undefined ? listeners.map((listener) => listener.address) : [`unix://${paths.dockerSocket}`],
      ...tlsOptions(settings.tls, paths),
      ...(settings.policyFile === undefined ? {} : { policyFile: policyPath(paths) }),
      ...(settings.hostsFile === undefined ? {} : { hostsFile: hostsPath(paths) }),
    },
    logLevel: settings.logLevel,
    shutdownTimeoutSeconds: settings.shutdownTimeoutSeconds,
    compact: settings.compact,
    compactMain: settings.compact ? await bundleOf(compactMain, 'compact', warn) : compactMain,
    composed,
    listeners,
    code: codeMount ?? codeRoot,
    version,
  });
  return {
    dataRoot: paths.dataRoot,
    execRoot: paths.execRoot,
    engineId,
    version,
    lockFd,
    listeners,
    processes,
    codeMount,
    tlsCopies,
    auditLog: settings.engineOptions.auditLog,
    pidFile: settings.pidFile,
  };
}

/** The gateway may write into it, and into nothing beside it. */
function openAuditLog(path: string, gateway: Account): void {
  if (!canReach(dirname(path), gateway)) throw new InvalidParameter(`--audit-log ${path} cannot be reached by user ${gateway.name}`);
  closeSync(openSync(path, 'a', 0o600));
  chownSync(path, gateway.uid, gateway.gid);
}

function findAccounts(warn: (line: string) => void): Accounts {
  const find = (name: string, what: string): Account => {
    const found = findAccount(name);
    if (found !== undefined) return found;
    warn(`there is no user ${name}: ${what} runs as root (deploy/setup.sh makes it)`);
    return root;
  };
  return {
    gateway: find('flotilla-gateway', 'the gateway'),
    registry: find('flotilla-registry', 'registry-proxy'),
    redis: find('redis', 'redis-server'),
    nats: find('nats', 'nats-server'),
  };
}

function openEngineId(path: string): string {
  if (existsSync(path)) {
    const found = readFileSync(path, 'utf8').trim();
    if (/^[A-Za-z0-9-]{1,64}$/.test(found)) return found;
  }
  const id = randomUUID();
  writeFileSync(`${path}.new`, `${id}\n`, { mode: 0o644 });
  renameSync(`${path}.new`, path);
  return id;
}

/** Below the range the kernel takes for outgoing connections, so that it is still free when nats-server has to start again. */
const portRange = { first: 20_000, count: 12_000 } as const;

/** The port of a nats-server that still runs, else a free one on the loopback. */
async function choosePort(before: StackState | undefined): Promise<number> {
  if (before?.natsPort !== undefined && before.processes.some((process) => process.name === 'nats' && isAlive(process)))
    return before.natsPort;
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = portRange.first + Math.floor(Math.random() * portRange.count);
    if (await isFree(port)) return port;
  }
  throw new InvalidParameter('no free port on the loopback interface for nats-server');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
