/**
 * The operator's file of upstreams (`--upstreams FILE`), JSON:
 *
 *   {
 *     "ownPrefixes": ["lab"],
 *     "upstreams": {
 *       "docker.io": {
 *         "mirrors": ["https://mirror.lab", {"url": "https://other.lab", "ca": "other.crt"}],
 *         "credentials": {"username": "lab", "passwordFile": "hub.password"},
 *         "concurrency": 8
 *       },
 *       "registry.corp:5000": {"url": "https://10.0.0.7", "ca": "corp.crt", "clientCertificate": "lab.crt", "clientKey": "lab.key"}
 *     }
 *   }
 *
 * Paths are relative to the file. Credentials here are the lab's own: used for those who come with none.
 */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import { z } from 'zod';
import type { Credentials } from '../credentials.ts';
import { type TimeLimits, tlsIdentity } from './connection.ts';
import { defaultUrlOf, type Endpoint, endpointAt } from './endpoints.ts';

const url = z
  .string()
  .max(1000)
  .refine((text) => URL.canParse(text) && ['http:', 'https:'].includes(new URL(text).protocol), 'must be http://HOST… or https://HOST…')
  .refine((text) => !URL.canParse(text) || new URL(text).username + new URL(text).password === '', 'must not hold credentials');
const path = z.string().min(1).max(4096);
const milliseconds = z.number().int().min(1).max(3_600_000).optional();

const server = {
  /** PEM of authorities that count beside the system's. */
  ca: path.optional(),
  clientCertificate: path.optional(),
  clientKey: path.optional(),
  /** `true`: any certificate will do. */
  skipVerify: z.boolean().default(false),
  credentials: z.strictObject({ username: z.string().min(1).max(256), passwordFile: path }).optional(),
};

const upstream = z.strictObject({
  /** Default: https at the registry's own name. */
  url: url.optional(),
  ...server,
  /** Asked first, in this order, for reads. */
  mirrors: z.array(z.union([url, z.strictObject({ url, ...server })])).default([]),
  timeouts: z.strictObject({ connectMs: milliseconds, firstByteMs: milliseconds, idleMs: milliseconds }).default({}),
  /** Blobs fetched at a time. */
  concurrency: z.number().int().min(1).max(1000).optional(),
});

const upstreamsFile = z.strictObject({
  ownPrefixes: z.array(z.string().regex(/^[a-z0-9]+(?:[_-][a-z0-9]+)*$/, 'must be a name of small letters and digits')).optional(),
  upstreams: z
    .record(z.string().regex(/^[A-Za-z0-9[][A-Za-z0-9.:[\]-]{0,254}$/, 'must be a registry: HOST or HOST:PORT'), upstream)
    .default({}),
});

type WrittenServer = Pick<z.output<typeof upstream>, keyof typeof server>;

/** One registry, as the file has it. */
export interface NamedUpstream {
  readonly endpoint: Endpoint;
  readonly mirrors: readonly Endpoint[];
  readonly concurrency: number | undefined;
}

export interface Upstreams {
  readonly named: ReadonlyMap<string, NamedUpstream>;
  /** undefined: those of the settings. */
  readonly ownPrefixes: readonly string[] | undefined;
  /** Every file that was read, itself first. */
  readonly files: readonly string[];
}

/** Reads the file and all that it names. @throws InvalidParameter that names every mistake, and no secret. */
export async function readUpstreams(file: string): Promise<Upstreams> {
  const files: string[] = [];
  const text = async (written: string): Promise<string> => {
    const at = resolve(dirname(file), written);
    files.push(at);
    return readFile(at, 'utf8').catch((error: unknown) => {
      throw new InvalidParameter(`${file}: ${errorMessage(error)}`, { cause: error });
    });
  };
  const document = parse(file, await text(file));
  const named = new Map<string, NamedUpstream>();
  for (const [name, { url: base, mirrors, timeouts, concurrency, ...own }] of Object.entries(document.upstreams)) {
    const limits: Partial<TimeLimits> = {
      ...(timeouts.connectMs === undefined ? {} : { connectTimeoutMs: timeouts.connectMs }),
      ...(timeouts.firstByteMs === undefined ? {} : { headersTimeoutMs: timeouts.firstByteMs }),
      ...(timeouts.idleMs === undefined ? {} : { bodyIdleTimeoutMs: timeouts.idleMs }),
    };
    const endpoint = async (at: string, written: WrittenServer, mirror: boolean): Promise<Endpoint> => ({
      ...endpointAt(at, { mirror, verifyTls: !written.skipVerify }),
      ...(await identity(file, name, written, text)),
      ...(await credentials(written, text)),
      limits,
    });
    named.set(name, {
      endpoint: await endpoint(base ?? defaultUrlOf(name), own, false),
      mirrors: await Promise.all(
        mirrors.map((mirror) =>
          typeof mirror === 'string'
            ? endpoint(mirror, { skipVerify: own.skipVerify, ca: own.ca }, true)
            : endpoint(mirror.url, mirror, true),
        ),
      ),
      concurrency,
    });
  }
  return { named, ownPrefixes: document.ownPrefixes, files };
}

function parse(file: string, text: string): z.output<typeof upstreamsFile> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    // V8 would quote the text, and people write passwords into such files.
    throw new InvalidParameter(`${file}: is not JSON`);
  }
  const result = upstreamsFile.safeParse(document);
  if (result.success) return result.data;
  const mistakes = result.error.issues.map((issue) => {
    const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message;
    return `${issue.path.join('.') || 'the document'}: ${message}`;
  });
  throw new InvalidParameter(`${file}:\n  ${mistakes.join('\n  ')}`);
}

async function identity(
  file: string,
  name: string,
  { ca, clientCertificate, clientKey }: WrittenServer,
  text: (path: string) => Promise<string>,
): Promise<Pick<Endpoint, 'tls'>> {
  if ((clientCertificate === undefined) !== (clientKey === undefined)) {
    throw new InvalidParameter(`${file}: upstreams.${name}: clientCertificate and clientKey belong together`);
  }
  const tls = tlsIdentity({
    ...(ca === undefined ? {} : { ca: await text(ca) }),
    ...(clientCertificate === undefined || clientKey === undefined
      ? {}
      : { certificate: await text(clientCertificate), key: await text(clientKey) }),
  });
  if (tls === undefined) return {};
  try {
    createSecureContext({ ca: tls.ca, cert: tls.certificate, key: tls.key });
  } catch (cause) {
    throw new InvalidParameter(`${file}: upstreams.${name}: certificates cannot be used: ${errorMessage(cause)}`, { cause });
  }
  return { tls };
}

async function credentials(
  { credentials: written }: WrittenServer,
  text: (path: string) => Promise<string>,
): Promise<{ credentials?: Credentials }> {
  if (written === undefined) return {};
  const password = (await text(written.passwordFile)).replace(/\r?\n$/, '');
  return { credentials: { kind: 'password', username: written.username, password } };
}
