/** What operators ask of a running registry-proxy, a lab's or a stack's: `flotilla registry status`, `prefetch`, `pins`, `unpin`, `collect`. */
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { type RequestOptions, request as tlsRequest } from 'node:https';
import { errorMessage, InvalidParameter, Unavailable } from '@flotilla/errors/classes';
import { socketsOf } from '../stack/sockets.ts';

/** Where a registry-proxy answers operators, and who they are to it: over TCP, or at its socket in a stack. */
export type RegistryAddress = LabAddress | { readonly execRoot: string };

interface LabAddress {
  readonly url: string;
  readonly user?: string | undefined;
  readonly passwordFile?: string | undefined;
  readonly ca?: string | undefined;
  readonly certificate?: string | undefined;
  readonly key?: string | undefined;
  readonly trustAnyone?: boolean;
}

/** What `/flotilla/v1/status` tells. */
export interface RegistryStatus {
  readonly upstreams: readonly {
    readonly url: string;
    readonly rateLimit?: { readonly limit?: number; readonly remaining: number; readonly windowSeconds?: number };
    readonly heldOffUntil?: string;
    readonly quarantine?: readonly { readonly repository: string; readonly reason: string; readonly until: string }[];
  }[];
  readonly cache: { readonly bytes: number; readonly maxBytes: number; readonly blobs: number; readonly evictions: number };
  readonly fills: number;
  readonly replicas: number;
  readonly offline: boolean;
}

const statusMs = 5_000;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** @throws Unavailable when it does not answer; undefined for one that has nothing to tell (it relays to a lab's). */
export async function askStatus(where: RegistryAddress): Promise<RegistryStatus | undefined> {
  const { status, text } = await ask(where, 'GET', '/flotilla/v1/status', undefined, AbortSignal.timeout(statusMs));
  if (status === 404) return undefined;
  if (status !== 200) throw new Unavailable(messageOf(text));
  return JSON.parse(text) as RegistryStatus;
}

/** Prints how it is. */
export async function registryStatus(where: RegistryAddress, json: boolean): Promise<void> {
  const status = await askStatus(where);
  if (status === undefined) throw new Unavailable("this registry-proxy passes all on to a lab's: ask that one (--url)");
  if (json) return say(JSON.stringify(status, null, 2));
  const { cache, fills, replicas, offline } = status;
  say(`cache      ${cache.blobs} blobs, ${cache.bytes} of ${cache.maxBytes} bytes, ${cache.evictions} evicted since the start`);
  say(`fetching   ${fills} blobs`);
  say(`replicas   ${replicas}${offline ? ', offline' : ''}`);
  for (const line of describeUpstreams(status)) say(line);
}

/** A line for each thing that an operator should know of an upstream. */
export function describeUpstreams({ upstreams }: Pick<RegistryStatus, 'upstreams'>): string[] {
  return upstreams.flatMap(({ url, rateLimit, heldOffUntil, quarantine = [] }) => [
    ...(rateLimit === undefined ? [] : [`upstream ${url}: ${describeRateLimit(rateLimit)}`]),
    ...(heldOffUntil === undefined ? [] : [`upstream ${url}: asks to be left alone until ${heldOffUntil}`]),
    ...quarantine.map(({ repository, reason, until }) => `upstream ${url}: in quarantine until ${until} for ${repository}: ${reason}`),
  ]);
}

function describeRateLimit({ limit, remaining, windowSeconds }: { limit?: number; remaining: number; windowSeconds?: number }): string {
  const of = limit === undefined ? '' : ` of ${limit}`;
  return `${remaining}${of} pulls left${windowSeconds === undefined ? '' : ` in a window of ${windowSeconds / 3600} hours`}`;
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
    const { message, errors } = JSON.parse(text) as { message?: unknown; errors?: { message?: unknown }[] };
    return String(message ?? errors?.[0]?.message);
  } catch {
    return text.slice(0, 500);
  }
}

function connection(where: RegistryAddress): RequestOptions {
  if ('url' in where) {
    if (!URL.canParse(where.url) || !/^https?:/.test(where.url)) {
      throw new InvalidParameter(`invalid argument "${where.url}" for "--url" flag: must be http://HOST:PORT or https://HOST:PORT`);
    }
    const { hostname, port, protocol } = new URL(where.url);
    return {
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      ...(protocol === 'https:' ? tlsOptions(where) : {}),
      ...(where.user === undefined ? {} : { auth: `${where.user}:${password(where)}` }),
    };
  }
  const [socketPath] = socketsOf(where.execRoot, 'registry-proxy', 'http');
  if (socketPath === undefined) throw new Unavailable('registry-proxy is not running');
  return { socketPath };
}

function tlsOptions({ ca, certificate, key, trustAnyone }: LabAddress): RequestOptions {
  return {
    rejectUnauthorized: trustAnyone !== true,
    ...(ca === undefined ? {} : { ca: readText('--tls-ca', ca) }),
    ...(certificate === undefined ? {} : { cert: readText('--tls-cert', certificate) }),
    ...(key === undefined ? {} : { key: readText('--tls-key', key) }),
  };
}

function password({ passwordFile }: LabAddress): string {
  if (passwordFile === undefined) throw new InvalidParameter('--user needs --password-file: a password on the command line is seen by all');
  return readText('--password-file', passwordFile).replace(/\r?\n$/, '');
}

function readText(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidParameter(`${flag}: ${errorMessage(error)}`);
  }
}

/** One request. A prefetch takes its time, so none is set but by `signal`. */
export function ask(
  where: RegistryAddress,
  method: string,
  path: string,
  document?: unknown,
  signal?: AbortSignal,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const isTls = 'url' in where && where.url.startsWith('https:');
    const options = { ...connection(where), method, path, agent: false as const, ...(signal === undefined ? {} : { signal }) };
    const outgoing = (isTls ? tlsRequest : request)(options, (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
    });
    outgoing.on('error', reject);
    outgoing.end(document === undefined ? undefined : JSON.stringify(document));
  });
}
