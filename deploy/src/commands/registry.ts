/**
 * `flotilla registry`: a registry-proxy without a stack, for a lab of hosts, and what operators ask of any registry-proxy.
 *
 * `up` starts one process on a data root; again with another address: a replica. Its pid is in `<data-root>/run/<address>.json`.
 */
import { spawn } from 'node:child_process';
import { chownSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, type RequestOptions, request } from 'node:http';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { InvalidParameter, Unavailable } from '@flotilla/errors/classes';
import { findAccount } from '../stack/accounts.ts';
import { requireProgram } from '../stack/programs.ts';
import { startTimeOf } from '../supervisor/process.ts';
import { tailOf } from './logs.ts';

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
  readonly foreground: boolean;
}

/** Where a registry-proxy answers operators: over TCP, or at its socket in a stack. */
export type RegistryAddress = { readonly url: string } | { readonly execRoot: string };

const serviceMain = fileURLToPath(new URL('../../../services/registry-proxy/src/standalone.ts', import.meta.url));
const nodeFlags = ['--max-semi-space-size=16', '--max-old-space-size=512'];
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
  const env = { ...process.env, NODE_COMPILE_CACHE: '', ...environment(options) };
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
  const url = `http://${host.includes(':') ? `[${host}]` : host.replace(/^0\.0\.0\.0$/, '127.0.0.1')}:${port}`;
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
  };
}

function pidPath(dataRoot: string, listen: string): string {
  return join(dataRoot, 'run', `${listen.replace(/[^0-9A-Za-z.-]/g, '_')}.json`);
}

async function isReady(url: string): Promise<boolean> {
  try {
    const { status } = await ask({ url }, 'GET', '/readyz');
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

/** Fills the cache of a registry-proxy; prints a line an image. @throws Unavailable when one of them could not be had. */
export async function registryPrefetch(
  where: RegistryAddress,
  wanted: { readonly images: readonly string[]; readonly platform: string; readonly pin: boolean },
): Promise<void> {
  const { status, text } = await ask(where, 'POST', '/flotilla/v1/prefetch', wanted);
  if (status !== 200) throw new InvalidParameter(messageOf(text));
  let failed = 0;
  for (const line of text.split('\n').filter((each) => each !== '')) {
    const { image, digest, blobs, bytes, error } = JSON.parse(line) as Record<string, unknown>;
    if (error === undefined) say(`${image}: ${digest}, ${blobs} blobs, ${bytes} bytes`);
    else {
      failed++;
      process.stderr.write(`${image}: ${error}\n`);
    }
  }
  if (failed > 0) throw new Unavailable(`${failed} of ${wanted.images.length} images could not be fetched`);
}

/** Prints what is pinned. */
export async function registryPins(where: RegistryAddress): Promise<void> {
  const { status, text } = await ask(where, 'GET', '/flotilla/v1/pins');
  if (status !== 200) throw new Unavailable(messageOf(text));
  for (const image of JSON.parse(text) as string[]) say(image);
}

/** Lets images go when the cache is full again. */
export async function registryUnpin(where: RegistryAddress, images: readonly string[]): Promise<void> {
  const { status, text } = await ask(where, 'POST', '/flotilla/v1/unpin', { images });
  if (status !== 200) throw new Unavailable(messageOf(text));
  for (const image of JSON.parse(text) as string[]) say(image);
}

/** Removes what no manifest of the proxy's own repositories needs. */
export async function registryCollect(where: RegistryAddress): Promise<void> {
  const { status, text } = await ask(where, 'POST', '/flotilla/v1/collect');
  if (status !== 200) throw new Unavailable(messageOf(text));
  const { blobs, bytes } = JSON.parse(text) as { blobs: number; bytes: number };
  say(`${blobs} blobs removed, ${bytes} bytes`);
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message?: unknown }).message);
  } catch {
    return text.slice(0, 500);
  }
}

function connection(where: RegistryAddress): RequestOptions {
  if ('url' in where) {
    if (!URL.canParse(where.url)) throw new InvalidParameter(`invalid argument "${where.url}" for "--url" flag: must be http://HOST:PORT`);
    const { hostname, port } = new URL(where.url);
    return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 80 : Number(port) };
  }
  const folder = join(where.execRoot, 'sockets/registry-proxy');
  const socket = readdirSync(folder).find((name) => name.endsWith('.http.sock'));
  if (socket === undefined) throw new Unavailable('registry-proxy is not running');
  return { socketPath: join(folder, socket) };
}

function ask(where: RegistryAddress, method: string, path: string, document?: unknown): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ ...connection(where), method, path, agent: false }, (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
    });
    outgoing.on('error', reject);
    outgoing.end(document === undefined ? undefined : JSON.stringify(document));
  });
}
