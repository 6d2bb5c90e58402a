/**
 * TLS files of the engine's tcp sockets. The gateway may not read the operator's key, so it is given copies of its own, made anew when the files change; it reads
 * them again when they do.
 */
import { readFileSync, statSync } from 'node:fs';
import type { EngineOptions } from '@flotilla/service-kit';
import type { TlsFiles } from '../options/settings.ts';
import type { Account } from './accounts.ts';
import { writeOwnedFile } from './ownedFile.ts';
import type { StackPaths } from './paths.ts';
import type { TlsCopy } from './plan.ts';

const names = { caCert: 'ca.pem', cert: 'cert.pem', key: 'key.pem' } as const;

/** Loaded where there is a hosts file: its schema would be a fifth of the supervisor's memory. */
const hostsFiles = (): Promise<typeof import('@flotilla/service-kit/hosts')> => import('@flotilla/service-kit/hosts');

/** What is copied where, and for whom. */
export function certificateCopies(tls: TlsFiles | undefined, paths: StackPaths, reader: Account): TlsCopy[] {
  if (tls === undefined) return [];
  return (['caCert', 'cert', 'key'] as const).flatMap((which) => {
    const from = tls[which];
    return from === undefined ? [] : [{ from, to: `${paths.tls}/${names[which]}`, uid: reader.uid, gid: reader.gid }];
  });
}

export async function copyCertificate(copy: TlsCopy): Promise<void> {
  writeOwnedFile(copy.to, copy.hosts ? (await hostsFiles()).resolveHosts(copy.from) : readFileSync(copy.from), copy);
}

export async function isRenewed(copy: TlsCopy): Promise<boolean> {
  const changedMs = copy.hosts ? (await hostsFiles()).hostsChangedMs(copy.from) : statSync(copy.from).mtimeMs;
  return changedMs > statSync(copy.to).mtimeMs;
}

/** The policy, for the gateway and for the services that run as root. */
export function policyCopies(file: string | undefined, paths: StackPaths, reader: Account): TlsCopy[] {
  return file === undefined ? [] : [{ from: file, to: policyPath(paths), uid: reader.uid, gid: reader.gid }];
}

export function policyPath(paths: StackPaths): string {
  return `${paths.tls}/policy.json`;
}

/** The other hosts, with what the gateway needs to dial them. */
export function hostsCopies(file: string | undefined, paths: StackPaths, reader: Account): TlsCopy[] {
  return file === undefined ? [] : [{ from: file, to: hostsPath(paths), uid: reader.uid, gid: reader.gid, hosts: true }];
}

export function hostsPath(paths: StackPaths): string {
  return `${paths.tls}/hosts.json`;
}

/** The engine option that tells the gateway where its copies are. */
export function tlsOptions(tls: TlsFiles | undefined, paths: StackPaths): Pick<Partial<EngineOptions>, 'tls'> {
  if (tls === undefined) return {};
  const [cert, key] = [`${paths.tls}/${names.cert}`, `${paths.tls}/${names.key}`];
  return { tls: { verify: tls.verify, cert, key, ...(tls.verify ? { caCert: `${paths.tls}/${names.caCert}` } : {}) } };
}
