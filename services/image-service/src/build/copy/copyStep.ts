/** COPY and ADD: files from the context, another stage, an image, an archive or the network into a new layer, without a container. */

import { createHash } from 'node:crypto';
import { chmodSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InvalidParameter, NotFound } from '@flotilla/errors';
import type { Digest } from '@flotilla/oci';
import type { HeldLayer } from '../../newImage.ts';
import type { BuildManner } from '../options.ts';
import type { RootFilesystems, WritableRoot } from '../rootFilesystems.ts';
import type { StepLayers } from '../stepLayers.ts';
import { isArchive, unpackArchive } from './archives.ts';
import { contentHash, type DirectoryDigests } from './contentHash.ts';
import { type PathFilter, TreeCopier } from './copyTree.ts';
import { type ModeChange, parseMode, parseOwner } from './owner.ts';
import { cleanPath, expandWildcards, hasWildcards, leadsOutside, resolveInRoot, statOf } from './paths.ts';

/** One thing to copy: found, and known by its content. */
export interface CopySource {
  /** The directory that links in it cannot leave. */
  readonly root: string;
  /** Its path below the root, as it was named. */
  readonly path: string;
  readonly hash: string;
  /** An archive that ADD unpacks. */
  readonly unpack: boolean;
}

export interface CopyRequest {
  readonly instruction: 'COPY' | 'ADD';
  readonly sources: readonly CopySource[];
  /** As written, with variables expanded; relative to the working directory. */
  readonly destination: string;
  readonly workingDirectory: string;
  readonly chown: string;
  readonly chmod: string;
  /** Owners as in the source, when no `chown` is given. */
  readonly keepOwners: boolean;
  readonly parents: boolean;
  /** Does not look at what is below. */
  readonly link: boolean;
  readonly excluded?: PathFilter;
  readonly manner: BuildManner;
  /** SOURCE_DATE_EPOCH, nanoseconds. */
  readonly epochNs?: bigint;
}

export interface FindOptions {
  readonly instruction: 'COPY' | 'ADD';
  /** The build context, which the words of an error name; else a stage or an image. */
  readonly isContext: boolean;
  readonly keepOwners: boolean;
  readonly unpack: boolean;
  readonly parents: boolean;
  readonly excluded?: PathFilter;
  /** Of directories below the root. */
  readonly digests?: DirectoryDigests;
}

/** Finds what a source path means below a root. @throws in dockerd's words. */
export async function findSources(root: string, path: string, options: FindOptions, signal: AbortSignal): Promise<CopySource[]> {
  if (leadsOutside(path.replace(/^\/+/, '')) && options.isContext) {
    throw new InvalidParameter(`${options.instruction} failed: forbidden path outside the build context: ${path} ()`);
  }
  const clean = cleanPath(path);
  const paths = hasWildcards(clean) ? await expandWildcards(root, clean) : [clean];
  const found: CopySource[] = [];
  for (const each of paths) {
    // `a/./b` with --parents: what is before the dot is not kept.
    const absolute = resolveInRoot(root, each);
    const stat = statOf(absolute);
    if (stat === undefined) {
      const where = options.isContext ? 'file not found in build context or excluded by .dockerignore: ' : '';
      throw new NotFound(`${options.instruction} failed: ${where}stat ${each}: file does not exist`);
    }
    if (!stat.isDirectory() && options.excluded?.(basename(each), false) === true && paths.length > 1) continue;
    const { digests } = options;
    const known = digests === undefined ? {} : { known: { root, digests } };
    const hash = await contentHash(absolute, { owners: options.keepOwners, ...filter(options.excluded), ...known }, signal);
    found.push({
      root,
      path: options.parents ? keptPath(path, each) : each,
      hash,
      unpack: options.unpack && stat.isFile() && (await isArchive(absolute)),
    });
  }
  return found;
}

function filter(excluded: PathFilter | undefined): { excluded?: PathFilter } {
  return excluded === undefined ? {} : { excluded };
}

/** The pivot stays in the path: `before/./kept`. */
function keptPath(written: string, found: string): string {
  const pivot = written.indexOf('/./');
  if (pivot < 0) return found;
  const before = cleanPath(written.slice(0, pivot)).split('/').filter(Boolean).length;
  const parts = found.split('/');
  return `${parts.slice(0, before).join('/')}/./${parts.slice(before).join('/')}`;
}

/** How history and cache name sources: `file:<hex>`, `dir:<hex>`, `multi:<hex>`. */
export function sourcesHash(sources: readonly CopySource[]): string {
  const [only] = sources;
  if (sources.length === 1 && only !== undefined) return only.hash;
  return `multi:${createHash('sha256')
    .update(sources.map(({ hash, path }) => `${hash} ${path}`).join(','))
    .digest('hex')}`;
}

/** The destination as an absolute path that keeps its last slash. */
export function absoluteDestination(destination: string, workingDirectory: string): string {
  const clean = cleanPath(destination.startsWith('/') ? destination : `${workingDirectory}/${destination}`);
  const isDirectory = destination.endsWith('/') || ['.', './', '..'].includes(destination) || /\/\.$/.test(destination);
  return isDirectory && clean !== '' ? `/${clean}/` : `/${clean}`;
}

export class CopySteps {
  private readonly roots: RootFilesystems;
  private readonly layers: StepLayers;

  constructor(roots: RootFilesystems, layers: StepLayers) {
    this.roots = roots;
    this.layers = layers;
  }

  /** @param below - the layers of the image so far. */
  async copy(request: CopyRequest, below: readonly Digest[], signal: AbortSignal): Promise<HeldLayer> {
    const owner = request.chown === '' ? undefined : parseOwner(request.chown, this.roots.view(below), request.manner);
    const mode: ModeChange | undefined = request.chmod === '' ? undefined : parseMode(request.chmod);
    const root = this.roots.writable(request.link ? [] : below);
    try {
      const copier = new TreeCopier(
        {
          owner: owner ?? (request.keepOwners ? undefined : { uid: 0, gid: 0 }),
          ...(mode === undefined ? {} : { mode }),
          ...filter(request.excluded),
          ...(request.epochNs === undefined ? {} : { modifiedNs: request.epochNs }),
        },
        signal,
      );
      const destination = absoluteDestination(request.destination, request.workingDirectory);
      const isCopied = await this.copyToNew(request, root, destination, copier);
      if (!isCopied) for (const source of request.sources) await this.copySource(source, root.root, destination, request, copier, signal);
      root.unmount();
    } catch (error) {
      root.discard();
      throw error;
    }
    return this.layers.seal(root.layerDirectory, signal, request.epochNs);
  }

  /** A directory that is copied to where there is nothing: once its place is made, the rest goes beside the mount, which doubles the work. */
  private async copyToNew(request: CopyRequest, root: WritableRoot, destination: string, copier: TreeCopier): Promise<boolean> {
    const [source] = request.sources;
    if (source === undefined || request.sources.length > 1 || source.unpack || request.parents) return false;
    const from = resolveInRoot(source.root, source.path);
    const target = resolveInRoot(root.root, destination);
    if (statOf(from)?.isDirectory() !== true) return false;
    const there = statOf(target);
    if (there === undefined) copier.destination(target);
    else {
      const isEmpty = there.isDirectory() && readdirSync(target).length === 0;
      // Where nothing comes, nothing may be written either.
      if (!isEmpty || request.excluded !== undefined || readdirSync(from).length === 0) return false;
      // Brings it into the writable layer.
      chmodSync(target, there.mode & 0o7777);
    }
    root.unmount();
    await copier.fill(from, join(root.layerDirectory, 'diff', target.slice(root.root.length)));
    return true;
  }

  private async copySource(
    source: CopySource,
    root: string,
    destination: string,
    { parents }: CopyRequest,
    copier: TreeCopier,
    signal: AbortSignal,
  ): Promise<void> {
    const from = resolveInRoot(source.root, source.path);
    const stat = statOf(from);
    const target = resolveInRoot(root, destination);
    if (source.unpack) {
      const unpacked = this.roots.newDirectory('archive');
      await unpackArchive(from, unpacked, signal);
      await new TreeCopier({ owner: undefined }, signal).contents(unpacked, target);
      return;
    }
    if (parents) {
      await this.copyWithParents(source, from, root, destination, copier);
      return;
    }
    if (stat?.isDirectory() === true) await copier.contents(from, target);
    else if (destination.endsWith('/') || statOf(target)?.isDirectory() === true) {
      await copier.file(from, join(resolveInRoot(root, destination), basename(source.path)));
    } else await copier.file(from, target);
  }

  private async copyWithParents(source: CopySource, from: string, root: string, destination: string, copier: TreeCopier): Promise<void> {
    const pivot = source.path.indexOf('/./');
    const before = pivot < 0 ? '' : source.path.slice(0, pivot);
    const kept = pivot < 0 ? source.path : source.path.slice(pivot + 3);
    const target = resolveInRoot(root, `${destination}/${kept}`);
    const directories = dirname(kept) === '.' ? [] : dirname(kept).split('/');
    directories.forEach((_, index) => {
      const path = directories.slice(0, index + 1).join('/');
      copier.directory(resolveInRoot(source.root, `${before}/${path}`), resolveInRoot(root, `${destination}/${path}`));
    });
    if (statOf(from)?.isDirectory() !== true) {
      await copier.file(from, target);
      return;
    }
    copier.directory(from, target);
    await copier.contents(from, target);
  }
}
