/**
 * What a proxy does besides distribution, over HTTP, for operators and for the stacks that share it:
 *
 *   POST /flotilla/v1/login      an AuthConfig → {status, identityToken}
 *   POST /flotilla/v1/search     {term, limit?, filters, registryAuth} → SearchResult[]
 *   GET  /flotilla/v1/info       RegistryServiceConfig
 *   GET  /flotilla/v1/status     how it is: upstreams in quarantine or to be left alone, rate limits, the cache
 *   POST /flotilla/v1/prefetch   {images, platform?, pin?, registryAuth} → a JSON line an image: {image, digest, blobs, bytes} or {image, error}
 *   GET  /flotilla/v1/pins       the images that are pinned
 *   POST /flotilla/v1/unpin      {images}
 *   POST /flotilla/v1/collect    removes what no manifest of an own repository needs → {blobs, bytes}
 *
 * Errors: {kind, message}, kind as in packages/errors.
 */
import { authConfig, decodeDocument } from '@flotilla/engine-api';
import { errorKind, errorMessage, InvalidParameter, toHttp } from '@flotilla/errors';
import { type Request, type Response, Router } from 'express';
import { z } from 'zod';
import { credentialsFromHeader } from '../credentials.ts';
import type { Operations } from '../operations.ts';
import { readBody } from '../upstream/transport.ts';
import { sendJson } from './exchange.ts';

const maxBodyBytes = 256 * 1024;

const images = z.array(z.string().min(1).max(1024)).min(1).max(1000);
const searchBody = z.object({
  term: z.string().max(1024),
  limit: z.number().int().optional(),
  filters: z.record(z.string(), z.string()).default({}),
  registryAuth: z.string().default(''),
});
const prefetchBody = z.object({
  images,
  platform: z.string().default(''),
  pin: z.boolean().default(false),
  registryAuth: z.string().default(''),
});
const unpinBody = z.object({ images });

/** Bodies of the routes above, as a caller in another process writes them. */
export type SearchBody = z.input<typeof searchBody>;

export function operationsRouter(operations: Operations): Router {
  const router = Router();
  router.post(
    '/login',
    answer(async (request, signal) =>
      operations.login.check(
        checked(await text(request), (written) => decodeDocument(authConfig, written) ?? {}),
        signal,
      ),
    ),
  );
  router.post(
    '/search',
    answer(async (request, signal) => {
      const { registryAuth, limit, ...rest } = await body(request, searchBody);
      return operations.search.find({ ...rest, limit, credentials: credentialsFromHeader(registryAuth) }, signal);
    }),
  );
  router.get(
    '/info',
    answer(async () => operations.info()),
  );
  router.get(
    '/status',
    answer(async () => operations.status()),
  );
  router.get(
    '/pins',
    answer(async () => operations.pins.list()),
  );
  router.post(
    '/unpin',
    answer(async (request) => operations.pins.remove((await body(request, unpinBody)).images)),
  );
  router.post(
    '/collect',
    answer(async () => operations.collector.collect()),
  );
  router.post('/prefetch', async (request, response) => {
    const signal = leaving(response);
    try {
      const { registryAuth, ...wanted } = await body(request, prefetchBody);
      const lines = operations.prefetch.run({ ...wanted, credentials: credentialsFromHeader(registryAuth) }, signal);
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      for await (const line of lines) response.write(`${JSON.stringify(line)}\n`);
      response.end();
    } catch (error) {
      refuse(response, error);
    }
  });
  return router;
}

function answer(work: (request: Request, signal: AbortSignal) => Promise<unknown>) {
  return async (request: Request, response: Response): Promise<void> => {
    try {
      sendJson(response, 200, await work(request, leaving(response)));
    } catch (error) {
      refuse(response, error);
    }
  };
}

function leaving(response: Response): AbortSignal {
  const left = new AbortController();
  response.on('close', () => {
    if (!response.writableFinished) left.abort();
  });
  return left.signal;
}

function refuse(response: Response, error: unknown): void {
  if (response.headersSent) response.destroy();
  else sendJson(response, toHttp(error).status, { kind: errorKind(error), message: errorMessage(error) });
}

async function text(request: Request): Promise<string> {
  return (await readBody(request, maxBodyBytes)).toString('utf8');
}

async function body<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  return checked(await text(request), (written) => schema.parse(JSON.parse(written)));
}

/** @throws InvalidParameter for what is no document of the kind. */
function checked<T>(written: string, parse: (written: string) => T): T {
  try {
    return parse(written);
  } catch (cause) {
    throw new InvalidParameter(`invalid JSON: ${cause instanceof z.ZodError ? z.prettifyError(cause) : errorMessage(cause)}`, { cause });
  }
}
