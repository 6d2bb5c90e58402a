/** The server process of staticRegistry.ts: `node staticRegistryMain.ts DIRECTORY`. Reads its files anew for every request. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { blobPath } from './imageArchives.ts';
import type { Descriptor } from './images.ts';
import type { Misbehaviour } from './staticRegistry.ts';

const directory = process.argv[2] ?? '.';
const used = new Map<string, number>();

function misbehaviourFor(path: string): Misbehaviour | undefined {
  const list = JSON.parse(readFileSync(join(directory, 'misbehaviours.json'), 'utf8')) as Misbehaviour[];
  return list.find((one) => {
    if (!path.includes(one.path)) return false;
    const key = JSON.stringify(one);
    const count = (used.get(key) ?? 0) + 1;
    if (one.times !== undefined && count > one.times) return false;
    used.set(key, count);
    return true;
  });
}

interface Content {
  readonly bytes: Buffer;
  readonly digest: string;
  readonly mediaType: string;
}

function find(path: string): Content | undefined {
  const manifest = /^\/v2\/(?<repository>.+)\/manifests\/(?<reference>[^/]+)$/.exec(path)?.groups;
  if (manifest) {
    const tags = JSON.parse(readFileSync(join(directory, 'tags.json'), 'utf8')) as Record<string, Descriptor>;
    const descriptor = tags[`${manifest.repository}:${manifest.reference}`];
    return descriptor && { bytes: readFileSync(join(directory, blobPath(descriptor.digest))), ...descriptor };
  }
  const digest = /\/blobs\/(?<digest>sha256:[0-9a-f]{64})$/.exec(path)?.groups?.digest;
  if (digest === undefined || !existsSync(join(directory, blobPath(digest)))) return undefined;
  return { bytes: readFileSync(join(directory, blobPath(digest))), digest, mediaType: 'application/octet-stream' };
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = (request.url ?? '/').split('?')[0] ?? '/';
  process.stdout.write(`request ${request.method} ${request.url} ${request.headers.range ?? ''}\n`);
  const misbehaviour = misbehaviourFor(path);
  if (misbehaviour?.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, misbehaviour.delayMs));
  if (misbehaviour?.status !== undefined) {
    response
      .writeHead(misbehaviour.status, { 'content-type': 'application/json' })
      .end(JSON.stringify({ errors: [{ code: 'UNKNOWN', message: 'made to fail' }] }));
    return;
  }
  if (path === '/v2/') {
    response.writeHead(200, { 'content-type': 'application/json', 'docker-distribution-api-version': 'registry/2.0' }).end('{}');
    return;
  }
  const content = find(path);
  if (content === undefined) {
    const code = path.includes('/manifests/') ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN';
    response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ errors: [{ code, message: 'unknown' }] }));
    return;
  }
  const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const body = content.bytes.subarray(start);
  response.writeHead(start > 0 ? 206 : 200, {
    'content-type': content.mediaType,
    'content-length': body.length,
    'docker-content-digest': content.digest,
    'accept-ranges': 'bytes',
    ...(start > 0 && { 'content-range': `bytes ${start}-${content.bytes.length - 1}/${content.bytes.length}` }),
  });
  if (request.method === 'HEAD') response.end();
  else if (misbehaviour?.cutAfterBytes !== undefined)
    response.write(body.subarray(0, misbehaviour.cutAfterBytes), () => response.destroy());
  else response.end(body);
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') process.stdout.write(`listening on ${address.port}\n`);
});
process.once('SIGTERM', () => process.exit(0));
