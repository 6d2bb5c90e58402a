/** `--cache-from`: the images that a client names. */
import type { CacheOptionsEntry } from '@flotilla/contracts/moby/buildkit/v1/control';
import type { FrontendOptions } from './frontendOptions.ts';

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
