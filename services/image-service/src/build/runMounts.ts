/** `RUN --mount`: directories of the context, of stages and images, caches and memory in the container of a step. */
import { chmodSync, chownSync, copyFileSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Mount } from '@flotilla/engine-api';
import { NotFound } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import type { BuildCache } from './cache.ts';
import type { BuildClient } from './client.ts';
import { mountFromClient } from './clientMounts.ts';
import { contentHash, type DirectoryDigests } from './copy/contentHash.ts';
import { TreeCopier } from './copy/copyTree.ts';
import { cleanPath, resolveInRoot, statOf } from './copy/paths.ts';
import { targetOf } from './mountOptions.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import { type SecretVariable, setVariables } from './secretVariables.ts';

/** One mount with its variables expanded. */
export interface MountRequest {
  readonly type: 'bind' | 'cache' | 'tmpfs' | 'secret' | 'ssh';
  readonly target: string;
  readonly source: string;
  readonly from: string;
  readonly readOnly: boolean;
  readonly id: string;
  /** Of a secret: the variable that holds it. */
  readonly variable: string;
  readonly sharing: 'shared' | 'private' | 'locked';
  readonly sizeBytes: number;
  readonly mode: number | undefined;
  readonly uid: number;
  readonly gid: number;
  readonly required: boolean;
}

export interface PreparedMounts {
  readonly mounts: readonly Mount[];
  readonly environment: readonly string[];
  /** The command as the container runs it. */
  readonly wrap: (command: readonly string[]) => readonly string[];
  /** Takes mount points that the runtime made out of the step's layer. */
  readonly removePoints: (upper: string) => void;
  release(): void;
}

export interface MountParts {
  readonly roots: RootFilesystems;
  readonly cache: BuildCache;
  /** Keeps cache directories apart from those of the same id elsewhere; empty: shared by all. */
  readonly cacheNamespace: string;
  /** The root of the context (empty name), a stage or an image. */
  readonly rootOf: (from: string, source: string) => Promise<string>;
  /** Of the context's directories, where they are known. */
  readonly digests: () => DirectoryDigests | undefined;
  readonly client: BuildClient | undefined;
  readonly workingDirectory: string;
  readonly signal: AbortSignal;
}

/** What the cache knows a step's mounts by. */
export async function mountsKey(requests: readonly MountRequest[], parts: MountParts): Promise<unknown[]> {
  const key: unknown[] = [];
  for (const request of requests) {
    const { type, target, source, from, readOnly, id, sizeBytes, variable } = request;
    const content = type === 'bind' ? await bindHash(request, parts) : '';
    const namespace = type === 'cache' ? parts.cacheNamespace : '';
    key.push([type, target, source, from, readOnly, id, sizeBytes, content, variable, namespace]);
  }
  return key;
}

async function bindHash(request: MountRequest, parts: MountParts): Promise<string> {
  const { from, source } = request;
  const path = await sourceOf(request, parts);
  const digests = from === '' ? parts.digests() : undefined;
  const known = digests === undefined ? {} : { known: { root: await parts.rootOf(from, source), digests } };
  return contentHash(path, { owners: from !== '', ...known }, parts.signal);
}

export async function prepareMounts(
  requests: readonly MountRequest[],
  below: readonly Digest[],
  parts: MountParts,
): Promise<PreparedMounts> {
  const mounts: Mount[] = [];
  const releases: (() => void)[] = [];
  const release = (): void => {
    for (const each of releases.splice(0).reverse()) each();
  };
  const points: string[] = [];
  const environment: string[] = [];
  const variables: SecretVariable[] = [];
  let agents = 0;
  try {
    for (const request of requests) {
      if (request.type === 'secret' || request.type === 'ssh') {
        const lent = await mountFromClient(request, parts, agents++);
        environment.push(...(lent?.environment ?? []));
        if (lent?.variable !== undefined) variables.push(lent.variable);
        if (lent?.source === undefined) continue;
        points.push(lent.target);
        mounts.push({ Type: 'bind', Source: lent.source, Target: lent.target, ReadOnly: request.type === 'secret' });
        continue;
      }
      const target = targetOf(request, parts.workingDirectory);
      points.push(target);
      if (request.type === 'tmpfs') {
        mounts.push({
          Type: 'tmpfs',
          Target: target,
          ...(request.sizeBytes === 0 ? {} : { TmpfsOptions: { SizeBytes: request.sizeBytes } }),
        });
        continue;
      }
      const source = request.type === 'bind' ? await bindSource(request, parts, releases) : await cacheSource(request, parts, releases);
      mounts.push({ Type: 'bind', Source: source, Target: target, ReadOnly: request.readOnly });
    }
  } catch (error) {
    release();
    throw error;
  }
  const missing = missingPoints(points, parts.roots.view(below));
  const { mounts: more, wrap } = setVariables(variables, parts.roots);
  return { mounts: [...mounts, ...more], environment, wrap, removePoints: (upper) => removePoints(missing, upper), release };
}

async function sourceOf({ source, from }: MountRequest, parts: MountParts): Promise<string> {
  const path = resolveInRoot(await parts.rootOf(from, source), source);
  if (statOf(path) === undefined) throw new NotFound(`failed to compute cache key: "${source}" not found`);
  return path;
}

async function bindSource(request: MountRequest, parts: MountParts, releases: (() => void)[]): Promise<string> {
  const source = await sourceOf(request, parts);
  if (request.readOnly) return source;
  // What the command writes is thrown away.
  if (statOf(source)?.isDirectory() !== true) {
    const copy = join(parts.roots.newDirectory('bind'), 'file');
    copyFileSync(source, copy);
    return copy;
  }
  try {
    const { root, unmount } = parts.roots.over(source);
    releases.push(unmount);
    return root;
  } catch {
    // On a store that is an overlay itself, or with a colon in its path: a copy does the same.
    const copy = parts.roots.newDirectory('bind');
    await new TreeCopier({ owner: undefined }, parts.signal).contents(source, copy);
    return copy;
  }
}

async function cacheSource(request: MountRequest, parts: MountParts, releases: (() => void)[]): Promise<string> {
  const { uid, gid, mode, from, source } = request;
  const id = request.id || cleanPath(request.target);
  const name = JSON.stringify([parts.cacheNamespace === '' ? id : `${parts.cacheNamespace}/${id}`, uid, gid, mode ?? 0o755, from, source]);
  const directory = await parts.cache.directory(name, request.sharing);
  releases.push(() => directory.release());
  if (directory.isNew) {
    if (from !== '') {
      const initial = resolveInRoot(await parts.rootOf(from, source), source);
      if (statOf(initial)?.isDirectory() === true)
        await new TreeCopier({ owner: undefined }, parts.signal).contents(initial, directory.path);
    }
    chownSync(directory.path, uid, gid);
    chmodSync(directory.path, mode ?? 0o755);
  }
  return directory.path;
}

/** Paths that the runtime has to make, deepest first. */
function missingPoints(points: readonly string[], root: string): string[] {
  const missing = new Set<string>();
  for (const point of points) {
    for (let path = point; path !== '/'; path = dirname(path)) {
      const found = resolveInRoot(root, path);
      if (statOf(found) === undefined) missing.add(found.slice(root.length));
    }
  }
  return [...missing].sort((a, b) => b.length - a.length);
}

function removePoints(missing: readonly string[], upper: string): void {
  for (const path of missing) {
    const made = join(upper, path);
    const stat = statOf(made);
    try {
      if (stat?.isDirectory() === true) rmdirSync(made);
      else if (stat?.isFile() === true && stat.size === 0) rmSync(made);
    } catch {
      // The command has put something beside it: it stays.
    }
  }
}
