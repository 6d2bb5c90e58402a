/** What a registry says of an image, asked through registry-proxy's Distribution API. */
import { InvalidParameter, NotFound, System, Unauthorized, Unavailable } from '@flotilla/errors';
import { http } from '@flotilla/service-kit/http';
import type { Router } from 'express';
import { sendJson } from '../http/respond.ts';
import { name } from './parameters.ts';

export interface DistributionOptions {
  /** The HTTP address of a live registry-proxy, `unix:/path` or `host:port`; undefined while there is none. */
  readonly proxyAddress: () => string | undefined;
}

const manifestTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const longestName = 255;
const limitBytes = 8 * 1024 * 1024;
const timeoutMs = 30_000;

export function distributionRoutes(router: Router, options: DistributionOptions): void {
  router.get(/^\/distribution\/(?<name>.*)\/json$/, async (request, response) => {
    const image = parseImage(name(request));
    const auth = request.headers['x-registry-auth'];
    const path = `/v2/${image.registry}/${image.repository}/manifests/${image.reference}`;
    const answer = await fetchFromProxy(options.proxyAddress(), path, typeof auth === 'string' ? auth : undefined);
    if (answer.status === 401 || answer.status === 403) throw new Unauthorized(answer.message);
    if (answer.status === 404) throw new NotFound(answer.message);
    if (answer.status !== 200) throw new System(answer.message);
    const document = JSON.parse(answer.body.toString('utf8')) as {
      mediaType?: string;
      manifests?: { platform?: unknown }[];
      config?: { digest: string };
    };
    const platforms =
      document.manifests === undefined
        ? [await platformOf(options, image, document.config?.digest, typeof auth === 'string' ? auth : undefined)]
        : document.manifests.map((manifest) => manifest.platform);
    sendJson(response, 200, {
      Descriptor: { mediaType: document.mediaType ?? answer.contentType, digest: answer.digest, size: answer.body.length },
      Platforms: platforms.filter((platform) => platform !== undefined),
    });
  });
}

interface Image {
  readonly registry: string;
  readonly repository: string;
  readonly reference: string;
}

/** A name as people write it: docker.io and library/ are understood, `latest` is the default. @throws InvalidParameter */
export function parseImage(written: string): Image {
  const [named = '', digest] = written.split('@', 2);
  const slash = named.indexOf('/');
  const first = slash < 0 ? '' : named.slice(0, slash);
  const hasRegistry = first.includes('.') || first.includes(':') || first === 'localhost';
  const registry = hasRegistry ? first : 'docker.io';
  let rest = hasRegistry ? named.slice(slash + 1) : named;
  let tag = 'latest';
  const colon = rest.lastIndexOf(':');
  if (colon >= 0) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
  }
  if (registry === 'docker.io' && !rest.includes('/')) rest = `library/${rest}`;
  const valid =
    /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/.test(rest) && /^[\w][\w.-]{0,127}$/.test(tag);
  const validDigest = digest === undefined || /^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(digest);
  if (!valid || !validDigest || !/^[A-Za-z0-9.:-]+$/.test(registry)) throw new InvalidParameter('invalid reference format');
  if (rest.length > longestName)
    throw new InvalidParameter(`invalid reference format: repository name must not be more than ${longestName} characters`);
  return { registry, repository: rest, reference: digest ?? tag };
}

async function platformOf(
  options: DistributionOptions,
  image: Image,
  digest: string | undefined,
  auth: string | undefined,
): Promise<unknown> {
  if (digest === undefined) return undefined;
  const { status, body } = await fetchFromProxy(options.proxyAddress(), `/v2/${image.registry}/${image.repository}/blobs/${digest}`, auth);
  if (status !== 200) return undefined;
  const { architecture, os, variant } = JSON.parse(body.toString('utf8')) as { architecture?: string; os?: string; variant?: string };
  return { architecture, os, ...(variant ? { variant } : {}) };
}

interface ProxyAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly digest: string;
  readonly body: Buffer;
  /** what went wrong, for a person */
  readonly message: string;
}

function fetchFromProxy(address: string | undefined, path: string, auth: string | undefined): Promise<ProxyAnswer> {
  if (address === undefined) throw new Unavailable('registry-proxy is not there');
  const colon = address.lastIndexOf(':');
  const target = address.startsWith('unix:')
    ? { socketPath: address.slice(5) }
    : { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
  return new Promise((resolve, reject) => {
    const call = http.request(
      {
        ...target,
        path,
        timeout: timeoutMs,
        headers: { Host: 'registry-proxy', Accept: manifestTypes.join(', '), ...(auth === undefined ? {} : { 'X-Registry-Auth': auth }) },
      },
      (answer) => {
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size > limitBytes) call.destroy(new System('the registry answered more than a manifest can be'));
        });
        answer.on('end', () => {
          const body = Buffer.concat(chunks);
          resolve({
            status: answer.statusCode ?? 500,
            contentType: answer.headers['content-type'] ?? '',
            digest: String(answer.headers['docker-content-digest'] ?? ''),
            body,
            message: registryMessage(body),
          });
        });
        answer.on('error', reject);
      },
    );
    call.on('timeout', () => call.destroy(new Unavailable('registry-proxy did not answer in time')));
    call.on('error', (error) =>
      reject(
        error instanceof System || error instanceof Unavailable ? error : new Unavailable('registry-proxy is not there', { cause: error }),
      ),
    );
    call.end();
  });
}

/** The first error of a Distribution API answer. */
function registryMessage(body: Buffer): string {
  try {
    const { errors } = JSON.parse(body.toString('utf8')) as { errors?: { code?: string; message?: string }[] };
    const [first] = errors ?? [];
    if (first !== undefined) return `${first.code?.toLowerCase().replaceAll('_', ' ') ?? 'error'}: ${first.message ?? ''}`;
  } catch {
    // No JSON: whoever answered is no registry.
  }
  return 'the registry refused the request';
}
