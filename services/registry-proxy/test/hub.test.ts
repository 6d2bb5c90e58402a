/**
 * Docker Hub as a whole, as it behaves: a registry that wants a token, a token server, and a store at another host that the registry sends every blob to by an
 * address with a short-lived signature. What goes wrong there in the middle of a blob is a row of the table; each time the client gets every byte, once.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { freePort, waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { StandIn, sendDocument, sha256, unauthorized } from './support/standIn.ts';

const KiB = 1024;
const size = 1024 * KiB;

/** The three of them. What a mishap leaves unanswered is answered as Hub would. */
class Hub {
  readonly registry: StandIn;
  readonly tokens: StandIn;
  readonly store: StandIn;
  /** Asked first, before the signature is looked at. */
  atStore: ((request: IncomingMessage, response: ServerResponse, digest: string) => boolean | Promise<boolean>) | undefined;
  atRegistry: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Where blobs are, when not at the store. */
  elsewhere: string | undefined;
  private serial = 0;
  private readonly validTokens = new Set<string>();
  private readonly signatures = new Set<string>();

  private constructor(registry: StandIn, tokens: StandIn, store: StandIn) {
    this.registry = registry;
    this.tokens = tokens;
    this.store = store;
    tokens.mishap = (_request, response) => {
      const token = `token-${++this.serial}`;
      this.validTokens.add(token);
      sendDocument(response, 200, { token, access_token: token, expires_in: 300, issued_at: new Date().toISOString() });
      return true;
    };
    registry.guard = (authorization) => {
      if (this.validTokens.has(/^Bearer (.+)$/.exec(authorization ?? '')?.[1] ?? '')) return true;
      const challenge = `Bearer realm="http://${tokens.host}/token",service="registry.docker.io",scope="repository:library/app:pull"`;
      return { challenge, status: 401, body: unauthorized };
    };
    registry.mishap = (request, response, path) => this.sendAway(request, response, path);
    store.mishap = (request, response, path) => this.serve(request, response, path);
  }

  static async start(): Promise<Hub> {
    return new Hub(await StandIn.start(), await StandIn.start(), await StandIn.start());
  }

  async stop(): Promise<void> {
    for (const each of [this.registry, this.tokens, this.store]) await each.stop();
  }

  forgetTokens(): void {
    this.validTokens.clear();
  }

  private sendAway(request: IncomingMessage, response: ServerResponse, path: string): boolean {
    if (this.atRegistry?.(request, response)) return true;
    const digest = /\/blobs\/(sha256:\w+)$/.exec(path)?.[1];
    if (digest === undefined || this.registry.guard?.(request.headers.authorization, path) !== true) return false;
    const signature = `s${++this.serial}`;
    this.signatures.add(signature);
    const location = `http://${this.elsewhere ?? this.store.host}/docker/blobs/${digest}/data?signature=${signature}`;
    response.writeHead(307, { location, 'content-length': '0' }).end();
    return true;
  }

  private async serve(request: IncomingMessage, response: ServerResponse, path: string): Promise<boolean> {
    const [, digest = '', signature = ''] = /\/(sha256:\w+)\/data\?signature=(\w+)$/.exec(path) ?? [];
    // As S3 does: two ways to say who one is are one too many.
    if (request.headers.authorization !== undefined) sendDocument(response, 400, { error: 'Only one auth mechanism allowed' });
    // Each address is good for one request.
    else if (!this.signatures.delete(signature)) sendDocument(response, 403, { error: 'Request has expired' });
    else if ((await this.atStore?.(request, response, digest)) !== true) await this.store.sendBlob(request, response, `app/${digest}`);
    return true;
  }
}

let hub: Hub;
let proxy: TestProxy;
beforeAll(async () => {
  hub = await Hub.start();
  proxy = await startProxy({
    env: { FLOTILLA_REGISTRY_UPSTREAMS: `docker.io=http://${hub.registry.host}`, FLOTILLA_REGISTRY_BODY_TIMEOUT_MS: '3000' },
  });
});
afterAll(async () => {
  await proxy?.stop();
  await hub?.stop();
});
afterEach(() => {
  // Whatever happened: nobody's token went to the store.
  expect(hub.store.requests.every(({ authorization, registryAuth }) => authorization === undefined && registryAuth === undefined)).toBe(
    true,
  );
  for (const each of [hub.registry, hub.tokens, hub.store]) each.requests.length = 0;
  hub.atStore = undefined;
  hub.atRegistry = undefined;
  hub.elsewhere = undefined;
});

const hexOf = (digest: string): string => digest.slice('sha256:'.length);
const addBlob = (bytes = size): string => hub.store.addBlob('app', randomBytes(bytes));
const blobUrl = (digest: string): string => `${proxy.url}/v2/library/app/blobs/${digest}`;
const pull = async (digest: string): Promise<{ status: number; digest: string }> => {
  const answer = await fetch(blobUrl(digest));
  return { status: answer.status, digest: sha256(new Uint8Array(await answer.arrayBuffer())) };
};
/** From which byte on the store was asked, in order. */
const starts = (): number[] => hub.store.requests.map(({ range }) => Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0));

/** Cuts the first answers after so many bytes. */
function cut(times: number, after: number, then?: () => void): void {
  let count = 0;
  hub.atStore = async (request, response, digest) => {
    if (count++ >= times) return false;
    await hub.store.sendBlob(request, response, `app/${digest}`, { cutAfter: after });
    then?.();
    return true;
  };
}

describe('a blob of Docker Hub', () => {
  it('is fetched by a token, from where the registry says, without the token', async () => {
    const digest = addBlob();
    expect(await pull(digest)).toEqual({ status: 200, digest });
    expect(hub.tokens.requests).toHaveLength(1);
    expect(starts()).toEqual([0]);
  });

  const mishaps: readonly [string, () => void | Promise<void>][] = [
    ['the connection is cut, and again', () => cut(2, 256 * KiB)],
    ['the token has run out when it goes on', () => cut(1, 256 * KiB, () => hub.forgetTokens())],
    [
      'the registry limits the rate when it goes on',
      () =>
        cut(1, 256 * KiB, () => {
          let isFirst = true;
          hub.atRegistry = (_request, response) => {
            if (isFirst)
              sendDocument(response, 429, { errors: [{ code: 'TOOMANYREQUESTS', message: 'slow down' }] }, { 'retry-after': '1' });
            const was = isFirst;
            isFirst = false;
            return was;
          };
        }),
    ],
    [
      'the store is ill when it goes on',
      () => {
        let count = 0;
        hub.atStore = async (request, response, digest) => {
          count++;
          if (count === 1) await hub.store.sendBlob(request, response, `app/${digest}`, { cutAfter: 256 * KiB });
          else if (count === 2) sendDocument(response, 503, {});
          return count <= 2;
        };
      },
    ],
    [
      'the store stalls',
      () => {
        let count = 0;
        hub.atStore = (_request, response) => {
          if (count++ > 0) return false;
          response.writeHead(200, { 'content-length': size }).flushHeaders();
          return true;
        };
      },
    ],
    [
      'the store cannot be reached when it goes on',
      async () => {
        const nowhere = `127.0.0.1:${await freePort()}`;
        cut(1, 256 * KiB, () => {
          hub.elsewhere = nowhere;
          setTimeout(() => {
            hub.elsewhere = undefined;
          }, 300);
        });
      },
    ],
    [
      'the store knows no ranges',
      () => {
        let count = 0;
        hub.atStore = async (request, response, digest) => {
          const how = count++ === 0 ? { cutAfter: 256 * KiB } : { ignoreRange: true };
          await hub.store.sendBlob(request, response, `app/${digest}`, how);
          return true;
        };
      },
    ],
  ];

  it.each(mishaps)('arrives whole though %s', async (_what, prepare) => {
    const digest = addBlob();
    await prepare();
    expect(await Promise.all([pull(digest), pull(digest), pull(digest)])).toEqual(Array(3).fill({ status: 200, digest }));
    // What had come is never asked for again: it goes on from further and further, with a fresh signature each time.
    const asked = starts();
    expect(asked).toEqual([...asked].sort((a, b) => a - b));
    expect(new Set(hub.store.requests.map(({ path }) => path)).size).toBe(asked.length);
    const before = hub.store.requests.length;
    expect(await pull(digest)).toEqual({ status: 200, digest });
    expect(hub.store.requests).toHaveLength(before);
  });

  it('that trickles is passed on as it comes, and holds up no other', async () => {
    const slow = addBlob();
    const quick = addBlob();
    hub.atStore = async (request, response, digest) => {
      if (digest !== slow) return false;
      await hub.store.sendBlob(request, response, `app/${digest}`, { chunkBytes: 32 * KiB, pauseMs: 60 });
      return true;
    };
    const answer = await fetch(blobUrl(slow));
    const reader = answer.body?.getReader();
    const first = await reader?.read();
    expect(first?.value?.length).toBeLessThan(size / 2);
    expect(await pull(quick)).toEqual({ status: 200, digest: quick });
    // A second client that never reads, and one that leaves, are nothing to the first.
    const [idle, leaving] = await Promise.all([fetch(blobUrl(slow)), fetch(blobUrl(slow))]);
    await leaving.body?.cancel();
    let bytes = first?.value?.length ?? 0;
    for (let part = await reader?.read(); part !== undefined && !part.done; part = await reader?.read()) bytes += part.value.length;
    expect(bytes).toBe(size);
    expect(starts().filter((start) => start === 0)).toHaveLength(2);
    await idle.body?.cancel();
  });

  it('that is another than its digest says is never given as a whole, nor kept', async () => {
    const digest = addBlob();
    const other = hub.store.addBlob('other', randomBytes(size));
    hub.atStore = async (request, response) => {
      await hub.store.sendBlob(request, response, `other/${other}`);
      return true;
    };
    await expect(pull(digest)).rejects.toThrow();
    const kept = (): string[] =>
      readdirSync(proxy.root, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes(hexOf(digest)));
    await waitFor(() => kept().length === 0, { what: 'nothing of it to be left' });
  });
});
