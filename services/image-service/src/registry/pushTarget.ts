/**
 * One repository at the registry-proxy, as a push writes it: blobs that are there already are left, others mounted from a neighbour or sent, and
 * what broke off goes on where the registry says that it stands.
 */
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { type Digest, type Reference, repositoryName } from '@flotilla/oci';
import type { BlobReference } from '../image.ts';
import { type Answer, RegistryError, readBody, refusal, send, type WithRegistry } from './distribution.ts';

/** How a blob is brought there. */
export interface BlobSending {
  /** Repositories of any registry that hold it. */
  readonly sources: readonly string[];
  /** Its bytes from `start` up to `end`; asked for only when they must be sent. */
  readonly bytes: (start: number, end: number) => Promise<Buffer | Readable>;
  readonly onProgress: (progress: PushProgress) => void;
}

export type PushProgress =
  | { readonly step: 'exists' | 'pushed' }
  | { readonly step: 'mounted'; readonly from: string }
  | { readonly step: 'sending'; readonly current: number }
  | { readonly step: 'retrying'; readonly seconds: number };

/** An upload under way at the registry, and how much of the blob it has. */
interface Upload {
  readonly location: string;
  readonly offset: number;
}

/**
 * A piece that was cut is lost in most registries, one that was acknowledged is not: pieces bound what is sent again, and cost a round trip each.
 */
const defaultPieceBytes = 64 * 1024 * 1024;
const maxAttempts = 5;
const reportEveryMs = 100;
/** Before a manifest is offered again. */
const manifestPausesMs = [50, 200, 800];

export class PushTarget {
  private readonly registry: WithRegistry;
  private readonly reference: Reference;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly signal: AbortSignal;
  private readonly pieceBytes: number;

  constructor(
    registry: WithRegistry,
    reference: Reference,
    registryAuth: string,
    signal: AbortSignal,
    pieceBytes: number = defaultPieceBytes,
  ) {
    this.registry = registry;
    this.reference = reference;
    this.signal = signal;
    this.pieceBytes = pieceBytes;
    this.headers = registryAuth === '' ? {} : { 'X-Registry-Auth': registryAuth };
  }

  private path(rest: string): string {
    return `/v2/${repositoryName(this.reference)}/${rest}`;
  }

  private request(
    method: string,
    path: string,
    options: { headers?: Readonly<Record<string, string>>; body?: () => Promise<Buffer | Readable> } = {},
  ): Promise<Answer> {
    return this.registry(async (address) => {
      const body = await options.body?.();
      return send(address, {
        method,
        path,
        headers: { ...this.headers, ...options.headers },
        ...(body === undefined ? {} : { body }),
        signal: this.signal,
      });
    }, this.signal);
  }

  /** A request without a body, that must be answered by one of `statuses`. */
  private async ask(method: 'POST' | 'PUT', path: string, statuses: readonly number[]): Promise<Answer> {
    const answer = await this.request(method, path, { headers: { 'Content-Length': '0' } });
    if (!statuses.includes(answer.status)) throw await refusal(answer);
    answer.body.resume();
    return answer;
  }

  /** Makes sure that the repository has a blob. @throws RegistryError */
  async blob(blob: BlobReference, sending: BlobSending): Promise<void> {
    let upload: Upload | undefined;
    let furthest = 0;
    let piece = this.pieceBytes;
    for (let attempt = 1; ; attempt++) {
      try {
        upload = (upload && (await this.stateOf(upload))) ?? (await this.begin(blob, sending));
        if (upload === undefined) return;
        while (upload.offset < blob.sizeBytes) {
          upload = await this.sendPiece(blob, upload, Math.min(blob.sizeBytes, upload.offset + piece), sending);
        }
        await this.ask('PUT', `${withQuery(upload.location)}digest=${encodeURIComponent(blob.digest)}`, [201, 204]);
        sending.onProgress({ step: 'pushed' });
        return;
      } catch (error) {
        this.signal.throwIfAborted();
        if (!(error instanceof RegistryError) || upload === undefined) throw error;
        const { offset }: Upload = upload;
        if (!error.passing && offset > 0 && offset < blob.sizeBytes && attempt < maxAttempts) {
          // Some registries take a blob as one piece only, or do not go on in the middle of one, whatever they say.
          upload = undefined;
          piece = blob.sizeBytes;
          continue;
        }
        // An attempt that came further was worth one of its own.
        if (offset > furthest) attempt = 1;
        furthest = Math.max(furthest, offset);
        if (!error.passing || attempt >= maxAttempts) throw error;
        for (let seconds = attempt; seconds > 0; seconds--) {
          sending.onProgress({ step: 'retrying', seconds });
          await pause(1000, undefined, { signal: this.signal });
        }
      }
    }
  }

  /** Begins an upload; undefined when the blob is there already, or now by being mounted. */
  private async begin(blob: BlobReference, { sources, onProgress }: BlobSending): Promise<Upload | undefined> {
    if (await this.has(blob.digest)) {
      onProgress({ step: 'exists' });
      return undefined;
    }
    const prefix = `${this.reference.domain}/`;
    const from = sources
      .map((source) => (source.startsWith(prefix) ? source.slice(prefix.length) : ''))
      .find((source) => source !== '' && source !== this.reference.path);
    const query = from === undefined ? '' : `?mount=${encodeURIComponent(blob.digest)}&from=${encodeURIComponent(from)}`;
    const answer = await this.ask('POST', this.path(`blobs/uploads/${query}`), [201, 202]);
    if (answer.status === 202) return { location: locationOf(answer), offset: 0 };
    onProgress({ step: 'mounted', from: from ?? '' });
    return undefined;
  }

  private async has(digest: Digest): Promise<boolean> {
    const answer = await this.request('HEAD', this.path(`blobs/${digest}`));
    answer.body.resume();
    // A refusal, or a registry that is out of reach, has no words in the answer to a HEAD: the upload's will tell.
    return answer.status === 200;
  }

  private async sendPiece(blob: BlobReference, { location, offset }: Upload, end: number, sending: BlobSending): Promise<Upload> {
    const isWhole = offset === 0 && end === blob.sizeBytes;
    const answer = await this.request('PATCH', location, {
      headers: {
        'Content-Type': 'application/octet-stream',
        'Content-Length': `${end - offset}`,
        ...(isWhole ? {} : { 'Content-Range': `${offset}-${end - 1}` }),
      },
      body: async () => {
        const bytes = await sending.bytes(offset, end);
        if (!Buffer.isBuffer(bytes)) reportReading(bytes, offset, sending);
        return bytes;
      },
    });
    if (answer.status !== 202 && answer.status !== 204) throw await refusal(answer);
    answer.body.resume();
    sending.onProgress({ step: 'sending', current: end });
    return { location: locationOf(answer), offset: end };
  }

  /** How far an upload has come; undefined when the registry knows it no more. */
  private async stateOf(upload: Upload): Promise<Upload | undefined> {
    const answer = await this.request('GET', upload.location);
    if (answer.status !== 204) {
      const error = await refusal(answer);
      if (error.passing) throw error;
      return undefined;
    }
    answer.body.resume();
    // `0-0` stands for nothing, and for one byte, which may be sent again as well.
    const last = Number(/^(?:bytes=)?0-(\d+)$/.exec(answer.headers.range ?? '')?.[1] ?? 0);
    return { location: answer.headers.location === undefined ? upload.location : locationOf(answer), offset: last === 0 ? 0 : last + 1 };
  }

  /**
   * A registry looks up what a manifest names, and the distribution project's answers DIGEST_INVALID when another client's upload of the same blob is just
   * being committed: it reads a link that is half written. It is asked again. @throws RegistryError
   */
  async putManifest(tag: string, { mediaType, bytes }: { mediaType: string; bytes: Buffer }): Promise<void> {
    for (const pauseMs of [...manifestPausesMs, undefined]) {
      const answer = await this.request('PUT', this.path(`manifests/${tag}`), {
        headers: { 'Content-Type': mediaType, 'Content-Length': `${bytes.length}` },
        body: async () => bytes,
      });
      if (answer.status >= 200 && answer.status <= 299) {
        await readBody(answer, 64 * 1024);
        return;
      }
      const error = await refusal(answer);
      if (error.code !== 'DIGEST_INVALID' || pauseMs === undefined) throw error;
      await pause(pauseMs, undefined, { signal: this.signal });
    }
  }
}

function reportReading(bytes: Readable, start: number, { onProgress }: BlobSending): void {
  let current = start;
  let reportedAtMs = 0;
  bytes.on('data', (chunk: Buffer) => {
    current += chunk.length;
    const now = performance.now();
    if (now - reportedAtMs < reportEveryMs) return;
    reportedAtMs = now;
    onProgress({ step: 'sending', current });
  });
}

/** Where an answer says to go on, as a path here: the proxy speaks for the registry. */
function locationOf(answer: Answer): string {
  const { location } = answer.headers;
  if (location === undefined) throw new RegistryError('the registry did not say where to upload to');
  const url = new URL(location, 'http://registry-proxy');
  return url.pathname + url.search;
}

function withQuery(path: string): string {
  return `${path}${path.includes('?') ? '&' : '?'}`;
}
