/**
 * `flotilla registry up` and `down`: a registry-proxy without a stack, for a lab of hosts.
 *
 * `up` starts one process on a data root; again with another address: a replica. Its pid is in `<data-root>/run/<address>.json`.
 */
import { spawn } from 'node:child_process';
import { chownSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { InvalidParameter, Unavailable } from '@flotilla/errors/classes';
import { findAccount } from '../stack/accounts.ts';
import { outsideRedis } from '../stack/outsideEngines.ts';
import { allocatorSettings } from '../stack/processes.ts';
import { requireProgram } from '../stack/programs.ts';
import { startTimeOf } from '../supervisor/process.ts';
import { tailOf } from './logs.ts';
import { ask } from './registryClient.ts';

export interface RegistryUpOptions {
  readonly listen: string;
  readonly dataRoot: string;
  readonly upstreams: readonly string[];
  readonly upstreamsFile: string | undefined;
  readonly mirrors: readonly string[];
  readonly insecureRegistries: readonly string[];
  readonly ownPrefixes: readonly string[];
  readonly cacheBytes: string | undefined;
  readonly tagTtlSeconds: string | undefined;
  readonly offline: boolean;
  /** Where replicas on other data roots reach this one. */
  readonly advertise: string | undefined;
  readonly access: RegistryAccess;
  readonly foreground: boolean;
}

/** Who may use it: files, and the names that may push. */
interface RegistryAccess {
  readonly htpasswd: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly clientCa: string | undefined;
  readonly pushUsers: string | undefined;
}

const serviceMain = fileURLToPath(new URL('../../../services/registry-proxy/src/standalone.ts', import.meta.url));

/**
 * Network buffers count as old space: with V8's own start of a few megabytes every 11 MB that pass through cost a whole collection, a third of the
 * CPU time of a cold pull. Above 64 MB it costs only memory: with these flags 58 MiB idle instead of 75, at the peak of four clients 175 instead of 206.
 */
const nodeFlags = ['--max-semi-space-size=4', '--initial-old-space-size=64', '--max-old-space-size=512'];
const readyMs = 30_000;
const stopMs = 40_000;
const pollMs = 50;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** @throws InvalidParameter for wrong flags; Unavailable when it does not become ready. */
export async function registryUp(options: RegistryUpOptions): Promise<void> {
  const { host, port } = parseListen(options.listen);
  const account = process.getuid?.() === 0 ? findAccount('flotilla-registry') : undefined;
  prepareFolder(options.dataRoot, account);
  const command = [process.execPath, ...nodeFlags, serviceMain];
  const argv =
    account === undefined
      ? command
      : [
          requireProgram('setpriv'),
          `--reuid=${account.uid}`,
          `--regid=${account.gid}`,
          '--clear-groups',
          '--no-new-privs',
          '--',
          ...command,
        ];
  const env = { ...process.env, ...allocatorSettings, NODE_COMPILE_CACHE: '', ...environment(options) };
  if (options.foreground) {
    if (process.execve === undefined) throw new InvalidParameter('--foreground needs Node 24 (run it as deploy/flotilla)');
    process.execve(argv[0] ?? '', argv, env as Record<string, string>);
  }
  const logPath = join(options.dataRoot, 'registry-proxy.log');
  const log = openSync(logPath, 'a', 0o640);
  const child = spawn(argv[0] ?? '', argv.slice(1), { cwd: '/', detached: true, stdio: ['ignore', log, log], env });
  child.unref();
  const { pid } = child;
  if (pid === undefined) throw new Unavailable('registry-proxy cannot be started');
  writeFileSync(pidPath(options.dataRoot, options.listen), JSON.stringify({ pid, startTime: startTimeOf(pid) }));
  const scheme = options.access.certificate === undefined ? 'http' : 'https';
  const url = `${scheme}://${host.includes(':') ? `[${host}]` : host.replace(/^0\.0\.0\.0$/, '127.0.0.1')}:${port}`;
  for (const end = Date.now() + readyMs; Date.now() < end; await pause(pollMs)) {
    if (startTimeOf(pid) === undefined) throw new Unavailable(`registry-proxy ended; its last words:\n${tailOf(logPath, 10)}`);
    if (await isReady(url)) return say(`registry-proxy     healthy   pid ${pid}\nlistening on ${options.listen}`);
  }
  throw new Unavailable(`registry-proxy is not ready after ${readyMs / 1000} s:\n${tailOf(logPath, 10)}`);
}

function parseListen(listen: string): { host: string; port: number } {
  const [, bracketed, plain, port = ''] = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(listen) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new InvalidParameter(`invalid argument "${listen}" for "--listen" flag: must be HOST:PORT`);
  }
  return { host, port: Number(port) };
}

function prepareFolder(dataRoot: string, account: { uid: number; gid: number } | undefined): void {
  if (!dataRoot.startsWith('/') || dataRoot === '/') {
    throw new InvalidParameter(`invalid argument "${dataRoot}" for "--data-root" flag: must be an absolute path`);
  }
  mkdirSync(join(dataRoot, 'run'), { recursive: true, mode: 0o750 });
  if (account !== undefined) chownSync(dataRoot, account.uid, account.gid);
}

function environment(options: RegistryUpOptions): Record<string, string> {
  return {
    FLOTILLA_DATA_ROOT: options.dataRoot,
    FLOTILLA_HTTP_ADDRESS: options.listen,
    FLOTILLA_ENGINE_OPTIONS: JSON.stringify({
      registryMirrors: options.mirrors,
      insecureRegistries: options.insecureRegistries,
      ...(options.upstreamsFile === undefined ? {} : { upstreamsFile: resolve(options.upstreamsFile) }),
    }),
    FLOTILLA_REGISTRY_UPSTREAMS: options.upstreams.join(','),
    ...(options.ownPrefixes.length === 0 ? {} : { FLOTILLA_REGISTRY_OWN_PREFIXES: options.ownPrefixes.join(',') }),
    ...(options.cacheBytes === undefined ? {} : { FLOTILLA_REGISTRY_CACHE_BYTES: options.cacheBytes }),
    ...(options.tagTtlSeconds === undefined ? {} : { FLOTILLA_REGISTRY_TAG_TTL_MS: String(Number(options.tagTtlSeconds) * 1000) }),
    ...(options.offline ? { FLOTILLA_REGISTRY_OFFLINE: '1' } : {}),
    ...redisEnvironment(),
    ...(options.advertise === undefined ? {} : { FLOTILLA_REGISTRY_ADVERTISE: options.advertise }),
    ...accessEnvironment(options.access),
  };
}

function redisEnvironment(): Record<string, string> {
  const redis = outsideRedis(process.env);
  if (redis?.kind !== 'outside') return {};
  return {
    FLOTILLA_REDIS_URL: redis.url,
    FLOTILLA_REDIS_USER: redis.user,
    FLOTILLA_REDIS_PASSWORD: redis.password,
    FLOTILLA_REDIS_TLS: JSON.stringify(redis.tls),
  };
}

function accessEnvironment({ htpasswd, certificate, key, clientCa, pushUsers }: RegistryAccess): Record<string, string> {
  const given = {
    FLOTILLA_REGISTRY_HTPASSWD: htpasswd,
    FLOTILLA_REGISTRY_TLS_CERTIFICATE: certificate,
    FLOTILLA_REGISTRY_TLS_KEY: key,
    FLOTILLA_REGISTRY_TLS_CLIENT_CA: clientCa,
  };
  const files = Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return {
    ...Object.fromEntries(files.map(([name, file]) => [name, resolve(file)])),
    ...(pushUsers === undefined ? {} : { FLOTILLA_REGISTRY_PUSH_USERS: pushUsers }),
  };
}

function pidPath(dataRoot: string, listen: string): string {
  return join(dataRoot, 'run', `${listen.replace(/[^0-9A-Za-z.-]/g, '_')}.json`);
}

async function isReady(url: string): Promise<boolean> {
  try {
    // It is our own child that we ask.
    const { status } = await ask({ url, trustAnyone: true }, 'GET', '/readyz');
    return status === 200;
  } catch {
    return false;
  }
}

/** Ends every replica on a data root, or the one that listens at an address. Pulls under way may end first. */
export async function registryDown(dataRoot: string, listen: string | undefined): Promise<void> {
  const folder = join(dataRoot, 'run');
  let names: string[] = [];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  } catch {
    // Nothing was ever started there.
  }
  const wanted = listen === undefined ? names.map((name) => join(folder, name)) : [pidPath(dataRoot, listen)];
  let stopped = 0;
  for (const path of wanted) if (await end(path)) stopped++;
  if (stopped === 0) throw new InvalidParameter(`no registry-proxy is running on ${dataRoot}`);
}

async function end(path: string): Promise<boolean> {
  let running: { pid: number; startTime: unknown };
  try {
    running = JSON.parse(readFileSync(path, 'utf8')) as typeof running;
  } catch {
    return false;
  }
  const isRunning = (): boolean => startTimeOf(running.pid) !== undefined && startTimeOf(running.pid) === running.startTime;
  const was = isRunning();
  if (was) process.kill(running.pid, 'SIGTERM');
  for (const until = Date.now() + stopMs; isRunning() && Date.now() < until; await pause(pollMs));
  if (isRunning()) process.kill(running.pid, 'SIGKILL');
  rmSync(path, { force: true });
  return was;
}
