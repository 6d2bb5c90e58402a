/**
 * What a test left behind on its host: processes, cgroups, mounts, network namespaces, links, nft elements, files, Redis keys.
 *
 * A snapshot is a count by kind, with identifiers replaced by `*`: a pool of ready namespaces changes its names all the time, a leak
 * changes how many there are. Fewer than before is no leak.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Redis } from 'ioredis';
import type { TestHost } from './testHost.ts';
import { waitFor } from './waitFor.ts';

/** Things by normalised description, each with how many of them there are. */
export type SystemSnapshot = ReadonlyMap<string, number>;

export interface LeakOptions {
  /** Descriptions that may grow, such as the cache of the registry proxy. */
  readonly ignore?: readonly RegExp[];
  /** How long clean-up after the answer may take. Default 10,000. */
  readonly timeoutMs?: number;
  /** A Redis of the test's own whose keys count too; the records of a running stack always do. */
  readonly redis?: { readonly socketPath: string };
}

/** Files that services keep on purpose: databases, logs, caches; and sockets of processes, which the process list covers. */
const keptFiles = [/^data\/(redis|nats|logs)\//, /^data\/registry-proxy\//, /^exec\/(redis|nats|logs|sockets)\//, /\.(log|pid)$/];

/** Takes a snapshot, once two looks half a second apart agree (pools fill up in the background). */
export async function snapshotSystem(host: TestHost, options: LeakOptions = {}): Promise<SystemSnapshot> {
  let before = await look(host, options);
  for (let round = 0; round < 20; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const now = await look(host, options);
    if (same(before, now)) return now;
    before = now;
  }
  return before;
}

/** Fails, naming them, when there are more things than before; waits a little for clean-up that goes on after an answer. */
export async function assertNoLeaks(host: TestHost, before: SystemSnapshot, options: LeakOptions = {}): Promise<void> {
  let leaks: string[] = [];
  await waitFor(
    async () => {
      leaks = compareSnapshots(before, await look(host, options), options.ignore);
      return leaks.length === 0;
    },
    { timeoutMs: options.timeoutMs ?? 10_000, intervalMs: 250, what: 'leaks to go' },
  ).catch(() => {});
  if (leaks.length > 0) throw new Error(`left behind on ${host.name}:\n  ${leaks.join('\n  ')}`);
}

/** The things of which `after` has more. */
export function compareSnapshots(before: SystemSnapshot, after: SystemSnapshot, ignore: readonly RegExp[] = []): string[] {
  return [...after]
    .filter(([thing, count]) => count > (before.get(thing) ?? 0) && !ignore.some((pattern) => pattern.test(thing)))
    .map(([thing, count]) => `${thing}: ${count}, before ${before.get(thing) ?? 0}`)
    .sort();
}

function same(a: SystemSnapshot, b: SystemSnapshot): boolean {
  return a.size === b.size && [...a].every(([thing, count]) => b.get(thing) === count);
}

async function look(host: TestHost, options: LeakOptions): Promise<SystemSnapshot> {
  const things = [
    ...processes(host),
    ...host.cgroups.groups().map((path) => `cgroup ${path.slice(path.indexOf(host.cgroups.name) + host.cgroups.name.length)}`),
    ...namespaceThings(host),
    ...(await links(host)),
    ...(await nftThings(host)),
    ...files(host),
    ...(await stackRecords(host)),
    ...(options.redis ? await redisKeys(options.redis) : []),
  ];
  const counts = new Map<string, number>();
  for (const thing of things) {
    const key = normalise(thing);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

/** Identifiers (hex of eight and more, numbers, uuids, random suffixes after a dot) become `*`. */
export function normalise(text: string): string {
  return text
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '*')
    .replace(/\b(?=[0-9a-f]*\d)[0-9a-f]{6,}\b/g, '*')
    .replace(/[0-9a-f]{12,}/g, '*')
    .replace(/\b\d+\b/g, '*')
    .replace(/(\/instances\/)[^/]+/g, '$1*')
    .replace(/\bveth\w+/g, 'veth*');
}

function processes(host: TestHost): string[] {
  return host.cgroups
    .processes()
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim();
      } catch {
        return '';
      }
    })
    .filter((line) => line !== '')
    .map((line) => `process ${line.slice(0, 200)}`);
}

/** Mounts and namespaces of every process that is not inside a container: those of the host itself and of the services. */
function namespaceThings(host: TestHost): string[] {
  const mountNamespaces = new Map<string, number>();
  const networkNamespaces = new Set<string>();
  for (const pid of host.cgroups.processes()) {
    try {
      mountNamespaces.set(readlinkSync(`/proc/${pid}/ns/mnt`), pid);
      networkNamespaces.add(readlinkSync(`/proc/${pid}/ns/net`));
    } catch {
      // It ended while we looked.
    }
  }
  const things = [...networkNamespaces].map(() => 'network namespace in use');
  const seen = new Set<string>();
  for (const pid of mountNamespaces.values()) {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
    } catch {
      continue;
    }
    for (const line of text.split('\n')) {
      const target = line.split(' ')[4] ?? '';
      if (target.startsWith(host.directory) || target.startsWith('/run/') || target.startsWith('/var/run/')) seen.add(target);
    }
  }
  for (const target of seen) things.push(`mount ${target}`);
  return things;
}

async function links(host: TestHost): Promise<string[]> {
  const listing = await host.mustRun('ip', ['-j', 'link']);
  return (JSON.parse(listing.stdout) as { ifname: string }[]).map(({ ifname }) => `link ${ifname}`);
}

/** Rules, and the elements of sets and maps, one by one. */
async function nftThings(host: TestHost): Promise<string[]> {
  const listing = await host.mustRun('nft', ['-j', 'list', 'ruleset']);
  const { nftables } = JSON.parse(listing.stdout) as { nftables: Record<string, NftObject>[] };
  return nftables.flatMap((entry) =>
    Object.entries(entry).flatMap(([kind, object]) => {
      if (kind === 'metainfo') return [];
      const title = `nft ${kind} ${[object.family, object.table, object.chain, object.name].filter(Boolean).join(' ')}`;
      return [title, ...(object.elem ?? []).map(() => `${title}: element`)];
    }),
  );
}

interface NftObject {
  readonly family?: string;
  readonly table?: string;
  readonly chain?: string;
  readonly name?: string;
  readonly elem?: readonly unknown[];
}

/** Names below the roots; what is inside layers and volumes is content, so it is not descended into. */
function files(host: TestHost): string[] {
  const found: string[] = [];
  const walk = (directory: string, depth: number): void => {
    let entries: string[];
    try {
      entries = readdirSync(directory);
    } catch {
      return;
    }
    for (const entry of entries) {
      const path = join(directory, entry);
      const name = relative(host.directory, path);
      if (keptFiles.some((pattern) => pattern.test(name))) continue;
      found.push(`file ${name}`);
      if (depth < 5 && isPlainDirectory(path)) walk(path, depth + 1);
    }
  };
  for (const root of [host.dataRoot, host.execRoot]) walk(root, 1);
  return found;
}

function isPlainDirectory(path: string): boolean {
  if (/\/(layers|volumes|fs|diff|merged|upper|work)\/[^/]+$/.test(path) && existsSync(path)) return false;
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** The records of the stack that runs here, service by service with its own account; nothing when none runs. */
async function stackRecords(host: TestHost): Promise<string[]> {
  const socketPath = join(host.execRoot, 'redis/redis.sock');
  const secrets = join(host.dataRoot, 'secrets');
  if (!existsSync(socketPath) || !existsSync(secrets)) return [];
  const engineId = readFileSync(join(host.dataRoot, 'engine-id'), 'utf8').trim();
  const found: string[] = [];
  for (const file of readdirSync(secrets)) {
    const service = file.replace(/\.json$/, '');
    if (service === 'supervisor') continue;
    const { redis: password } = JSON.parse(readFileSync(join(secrets, file), 'utf8')) as { redis: string };
    const client = new Redis({ path: socketPath, username: service, password });
    try {
      const prefix = `flotilla:{${engineId}:${service}}`;
      for (const field of await client.hkeys(`${prefix}:records`)) found.push(`record of ${service}: ${field}`);
    } finally {
      client.disconnect();
    }
  }
  return found;
}

async function redisKeys(options: NonNullable<LeakOptions['redis']>): Promise<string[]> {
  const client = new Redis({ path: options.socketPath });
  try {
    return (await client.keys('*')).map((key) => `redis ${key}`);
  } finally {
    client.disconnect();
  }
}
