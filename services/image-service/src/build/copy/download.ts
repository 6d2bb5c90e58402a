/** What ADD brings from the network: a file by HTTP, or a git repository. */
import { chmodSync, createWriteStream } from 'node:fs';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { InvalidParameter, System } from '@flotilla/errors';
import { DigestVerifier, parseDigest } from '@flotilla/oci';
import { lutimesNs } from '@flotilla/syscalls';
import { bar } from '../../progress.ts';
import type { StageOutput } from '../output.ts';
import { contentHash } from './contentHash.ts';
import type { CopySource } from './copyStep.ts';

export interface DownloadOptions {
  /** An empty directory. */
  readonly root: string;
  /** `sha256:…` of the file; empty: not checked. */
  readonly checksum: string;
  readonly destination: string;
  readonly output: StageOutput;
  readonly signal: AbortSignal;
}

const unnamed = '__unnamed__';

export function isUrl(source: string): boolean {
  return /^https?:\/\//i.test(source);
}

/** @throws System when the server refuses; InvalidParameter when the file is not what `checksum` says. */
export async function download(url: string, options: DownloadOptions): Promise<CopySource> {
  const { root, checksum, destination, output, signal } = options;
  const answer = await request(url, signal);
  const name = fileName(url, answer.headers.get('content-disposition'));
  if (name === '' && destination.endsWith('/')) throw new InvalidParameter(`ADD failed: cannot determine filename for source ${url}`);
  const path = join(root, name || unnamed);
  const verifier = checksum === '' ? undefined : new DigestVerifier(parseDigest(checksum));
  const total = Number(answer.headers.get('content-length') ?? 0);
  let current = 0;
  const body = answer.body === null ? Readable.from([]) : Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]);
  body.on('data', (chunk: Buffer) => {
    current += chunk.length;
    verifier?.update(chunk);
  });
  await pipeline(body, createWriteStream(path, { mode: 0o600, flags: 'wx' }), { signal });
  if (total > 0) output.progress(bar('Downloading', '', current, total));
  output.progress({ stream: '\n' });
  if (verifier?.verified() === false) throw new InvalidParameter(`ADD failed: digest mismatch ${verifier.digest()}: ${checksum}`);
  chmodSync(path, 0o600);
  const modified = Date.parse(answer.headers.get('last-modified') ?? '');
  const time = BigInt(Number.isNaN(modified) ? 0 : modified) * 1_000_000n;
  lutimesNs(path, time, time);
  return { root, path: name || unnamed, hash: await contentHash(path, { owners: false }, signal), unpack: false };
}

async function request(url: string, signal: AbortSignal): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { signal, redirect: 'follow' });
  } catch (cause) {
    signal.throwIfAborted();
    throw new System(`ADD failed: failed to GET ${url}: the server cannot be reached`, { cause });
  }
  if (!answer.ok) {
    const text = (await answer.text()).slice(0, 4096).trim();
    throw new System(`ADD failed: failed to GET ${url} with status ${answer.status} ${answer.statusText}: ${text}`);
  }
  return answer;
}

function fileName(url: string, disposition: string | null): string {
  const { pathname } = new URL(url);
  if (pathname !== '' && !pathname.endsWith('/')) return safe(decodeURIComponent(basename(pathname)));
  const match = /filename="?([^";]+)"?/i.exec(disposition ?? '');
  return match?.[1] === undefined ? '' : safe(match[1]);
}

/** A name that is only a name. */
function safe(name: string): string {
  const last = basename(name.replaceAll('\0', ''));
  return last === '.' || last === '..' ? '' : last;
}
