/**
 * Paths of the Distribution API, and which repository of which registry they mean.
 *
 *   /v2/<registry-host>/<repository>/…    the stack's own way: any registry
 *   /v2/<repository>/…?ns=<registry>      containerd's way
 *   /v2/<repository>/…                    dockerd's way: a mirror of docker.io; a repository below an own prefix (`lab/`) is stored here
 */
import { type Digest, isDigest, parseReference } from '@flotilla/oci';
import { DistributionError } from './distributionError.ts';

/** A repository of a registry. */
export interface Repository {
  /** `docker.io`, `localhost:5000`; `''` for the proxy's own. */
  readonly registry: string;
  /** `library/busybox` */
  readonly name: string;
}

/** What a manifest is asked by. */
export type ManifestReference = { readonly tag: string } | { readonly digest: Digest };

export type Route =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'manifest'; readonly repository: Repository; readonly reference: ManifestReference }
  | { readonly kind: 'blob'; readonly repository: Repository; readonly digest: Digest }
  | { readonly kind: 'upload'; readonly repository: Repository; readonly id: string | undefined }
  | { readonly kind: 'tags'; readonly repository: Repository }
  | { readonly kind: 'referrers'; readonly repository: Repository; readonly digest: Digest };

const maxPathLength = 4096;
const maxUploadIdLength = 3072;
const tagPattern = /^\w[\w.-]{0,127}$/;
const uploadIdPattern = /^[A-Za-z0-9_.-]+$/;

/** The registry of repositories that are stored in the proxy itself. */
export const ownRegistry = '';

/** `docker.io/library/busybox`, and `lab/app` for an own one: unique, and what logs show. */
export function repositoryKey(repository: Repository): string {
  return repository.registry === ownRegistry ? repository.name : `${repository.registry}/${repository.name}`;
}

export function referenceText(reference: ManifestReference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}

/**
 * Reads the path of a request below `/v2`.
 *
 * @param path - the raw path, `/v2/…`, without the query.
 * @param namespace - the query's `ns`, when given.
 * @param ownPrefixes - first path components of repositories that are stored here; `docker.io/lab`: also when asked for as docker.io's.
 * @throws DistributionError NAME_INVALID, DIGEST_INVALID, MANIFEST_UNKNOWN; undefined when it is no path of the API at all.
 */
export function parseRoute(path: string, namespace: string | undefined, ownPrefixes: ReadonlySet<string>): Route | undefined {
  if (path.length > maxPathLength) throw new DistributionError('NAME_INVALID', 'invalid repository name');
  const segments = decodePath(path).split('/');
  if (segments[0] !== '' || segments[1] !== 'v2') return undefined;
  const rest = segments.slice(2);
  if (rest.length === 0 || (rest.length === 1 && rest[0] === '')) return { kind: 'base' };
  if (rest.length === 1 && rest[0] === '_catalog') return { kind: 'catalog' };
  return parseContent(rest, namespace, ownPrefixes);
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new DistributionError('NAME_INVALID', 'invalid repository name');
  }
}

function parseContent(segments: readonly string[], namespace: string | undefined, ownPrefixes: ReadonlySet<string>): Route | undefined {
  const repository = (end: number): Repository => parseRepository(segments.slice(0, end).join('/'), namespace, ownPrefixes);
  const last = segments.at(-1) ?? '';
  const length = segments.length;
  if (segments[length - 3] === 'blobs' && segments[length - 2] === 'uploads') {
    return { kind: 'upload', repository: repository(length - 3), id: last === '' ? undefined : parseUploadId(last) };
  }
  switch (segments[length - 2]) {
    case 'manifests':
      return { kind: 'manifest', repository: repository(length - 2), reference: parseManifestReference(last) };
    case 'blobs':
      if (last === 'uploads') return { kind: 'upload', repository: repository(length - 2), id: undefined };
      return { kind: 'blob', repository: repository(length - 2), digest: parseDigestSegment(last) };
    case 'tags':
      return last === 'list' ? { kind: 'tags', repository: repository(length - 2) } : undefined;
    case 'referrers':
      return { kind: 'referrers', repository: repository(length - 2), digest: parseDigestSegment(last) };
    default:
      return undefined;
  }
}

/** @throws DistributionError NAME_INVALID */
export function parseRepository(name: string, namespace: string | undefined, ownPrefixes: ReadonlySet<string>): Repository {
  const refuse = (cause?: unknown): DistributionError =>
    new DistributionError('NAME_INVALID', 'invalid repository name', { detail: { name: name.slice(0, 300) }, cause });
  try {
    const own = ownName(name, namespace, ownPrefixes);
    if (own !== undefined) {
      // Checked by the same grammar, as if it were one of docker.io's.
      const { path } = parseReference(`docker.io/${own}`);
      if (path !== own) throw refuse();
      return { registry: ownRegistry, name: own };
    }
    const written = namespace === undefined ? name : `${namespace}/${name}`;
    const { domain, path, tag, digest } = parseReference(written);
    if (tag !== undefined || digest !== undefined || !isPort(domain)) throw refuse();
    if (namespace !== undefined && domain !== namespace && !(namespace === 'index.docker.io' && domain === 'docker.io')) throw refuse();
    return { registry: domain, name: path };
  } catch (error) {
    throw error instanceof DistributionError ? error : refuse(error);
  }
}

/** The name of an own repository; `docker.io/lab/app` is one where `docker.io/lab` is among the prefixes. */
function ownName(name: string, namespace: string | undefined, ownPrefixes: ReadonlySet<string>): string | undefined {
  if (namespace !== undefined) return undefined;
  const [first = '', second = ''] = name.split('/', 2);
  if (ownPrefixes.has(first)) return name;
  return ownPrefixes.has(`${first}/${second}`) ? name.slice(first.length + 1) : undefined;
}

/** Whether the host's port, if it has one, is one. */
function isPort(host: string): boolean {
  const port = /:(\d+)$/.exec(host)?.[1];
  return port === undefined || (port.length <= 5 && Number(port) > 0 && Number(port) < 65536);
}

/** Whether a tag can be called so. */
export function isTag(text: string): boolean {
  return tagPattern.test(text);
}

function parseManifestReference(text: string): ManifestReference {
  if (text.includes(':')) return { digest: parseDigestSegment(text) };
  if (isTag(text)) return { tag: text };
  // What the specification's conformance cases expect for a tag that cannot exist.
  throw new DistributionError('MANIFEST_UNKNOWN', 'manifest unknown', { detail: { tag: text.slice(0, 150) } });
}

function parseDigestSegment(text: string): Digest {
  if (isDigest(text)) return text;
  throw new DistributionError('DIGEST_INVALID', 'provided digest did not match uploaded content', { detail: text.slice(0, 150) });
}

function parseUploadId(text: string): string {
  if (text.length <= maxUploadIdLength && uploadIdPattern.test(text)) return text;
  throw new DistributionError('BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
}
