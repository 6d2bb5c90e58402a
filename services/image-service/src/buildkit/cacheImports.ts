/** `--cache-from`: the images that a client names. */
import type { CacheOptionsEntry } from '@flotilla/contracts/moby/buildkit/v1/control';
import { isNotFound } from '@flotilla/errors';
import { type Platform, parseReference } from '@flotilla/oci';
import type { Credentials } from '../build/credentials.ts';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import type { Puller } from '../pull.ts';
import type { FrontendOptions } from './frontendOptions.ts';
import type { Progress } from './progress.ts';

export interface ImportOptions {
  readonly store: ImageStore;
  readonly puller: Puller;
  readonly platform: Platform;
  readonly credentials: Credentials;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Brings them here, without a name. One that cannot be had is shown as a step that failed, and the build goes on. */
export async function importCaches(names: readonly string[], options: ImportOptions): Promise<Image[]> {
  const found = await Promise.all(names.map((name) => importCache(name, options)));
  return found.flatMap((image) => image ?? []);
}

async function importCache(name: string, options: ImportOptions): Promise<Image | undefined> {
  const { store, puller, platform, credentials, progress, signal } = options;
  try {
    return await progress.during(`importing cache manifest from ${name}`, async (vertex) => {
      const reference = parseReference(name);
      const registryAuth = await credentials(reference.domain);
      const request = { reference, platform, platformAsked: false, registryAuth, cacheOnly: true };
      return puller.pull(
        request,
        ({ id, status }) => vertex.bar({ id: id ?? '', name: status ?? '', current: 0, total: 0, isComplete: true }),
        signal,
      );
    });
  } catch {
    signal.throwIfAborted();
    return local(store, name);
  }
}

function local(store: ImageStore, name: string): Image | undefined {
  try {
    return store.find(name);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Registries alone: other kinds of cache are of no use here, and no error. */
export function importedNames(options: FrontendOptions, entries: readonly CacheOptionsEntry[]): string[] {
  const all = [...entries.map(({ type, attrs }) => ({ type, attrs })), ...fromOption(options['cache-imports'] ?? '')];
  const names = all.flatMap(({ type, attrs }) => (type === 'registry' && attrs.ref !== undefined ? attrs.ref : []));
  const older = (options['cache-from'] ?? '').split(',').filter(Boolean);
  return [...new Set([...names, ...older])];
}

interface Entry {
  readonly type: string;
  readonly attrs: Readonly<Record<string, string>>;
}

function fromOption(json: string): Entry[] {
  if (json === '') return [];
  try {
    const list: unknown = JSON.parse(json);
    if (!Array.isArray(list)) return [];
    return list.map((each: { Type?: string; Attrs?: Record<string, string> }) => ({ type: each.Type ?? '', attrs: each.Attrs ?? {} }));
  } catch {
    return [];
  }
}
