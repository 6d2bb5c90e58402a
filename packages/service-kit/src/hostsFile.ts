/**
 * The hosts file: other engines that are reached through this one's gateway, below `/hosts/NAME`.
 *
 *   { "hosts": { "h1": { "url": "https://10.0.0.5:2376", "ca": "/etc/lab/ca.pem", "cert": "/etc/lab/cert.pem", "key": "/etc/lab/key.pem" } } }
 *
 * The operator's file names certificate files. The gateway may not read those: its copy holds what is in them, in the same places.
 */
import { readFileSync, statSync } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors/classes';
import { z } from 'zod';

/** Names that are one element of a path, and nothing else. */
const hostName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'a host is named by letters, digits, dots, dashes and underscores');

const host = z
  .strictObject({
    /** `https://HOST:PORT`, `unix:///PATH`, or `http://HOST:PORT` with `insecure`. */
    url: z.string().regex(/^(?:https?:\/\/[^/?#@]+\/?|unix:\/\/\/.+)$/, 'must be https://HOST:PORT, http://HOST:PORT or unix:///PATH'),
    /** Who signed the host's certificate; without it, who the system trusts. */
    ca: z.string().optional(),
    /** What the gateway shows to the host. */
    cert: z.string().optional(),
    key: z.string().optional(),
    /** Said for a host that is reached without TLS over the network. */
    insecure: z.boolean().default(false),
  })
  .refine((one) => (one.cert === undefined) === (one.key === undefined), 'cert and key belong together')
  .refine((one) => !one.url.startsWith('http:') || one.insecure, 'http:// without TLS needs "insecure": true');

const schema = z.strictObject({ hosts: z.record(hostName, host) });

export type RemoteHost = Readonly<z.output<typeof host>>;
export type RemoteHosts = ReadonlyMap<string, RemoteHost>;

const credentials = ['ca', 'cert', 'key'] as const;

/** @throws InvalidParameter that says where the mistake is. */
export function parseHosts(text: string): RemoteHosts {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new InvalidParameter(`the hosts file is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the document'}: ${issue.message}`);
    throw new InvalidParameter(`the hosts file is wrong: ${problems.join('; ')}`);
  }
  return new Map(Object.entries(parsed.data.hosts));
}

/** The operator's file with the certificates in place of their paths. @throws InvalidParameter; also for a certificate that cannot be read. */
export function resolveHosts(path: string): string {
  const resolved = [...readHosts(path)].map(([name, one]): [string, RemoteHost] => {
    const read = Object.fromEntries(credentials.flatMap((which) => (one[which] === undefined ? [] : [[which, readText(one[which])]])));
    return [name, { ...one, ...read }];
  });
  return JSON.stringify({ hosts: Object.fromEntries(resolved) });
}

/** When the operator's file, or a certificate it names, was last changed: milliseconds since 1970. */
export function hostsChangedMs(path: string): number {
  const named = [...readHosts(path).values()].flatMap((one) => credentials.flatMap((which) => one[which] ?? []));
  return Math.max(...[path, ...named].map((file) => statSync(file).mtimeMs));
}

function readHosts(path: string): RemoteHosts {
  return parseHosts(readText(path));
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidParameter(`the hosts file: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
