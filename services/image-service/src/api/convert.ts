/** Between protos and what image-service works with. */
import { InvalidParameter } from '@flotilla/errors';
import { hostPlatform, normalisePlatform, type Platform, parsePlatform } from '@flotilla/oci';
import type { Filters } from '../filters.ts';

/** A document of the Engine API as bytes. */
export function toJson(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

export function toFilters(filters: Readonly<Record<string, { readonly values: readonly string[] }>>): Filters {
  return new Map(Object.entries(filters).map(([name, { values }]) => [name, values]));
}

/**
 * A platform as clients write it: `os/arch/variant`, or (API 1.48 on) a JSON document.
 *
 * @returns undefined when none was asked for. @throws InvalidParameter
 */
export function toPlatform(text: string): Platform | undefined {
  if (text === '') return undefined;
  if (!text.startsWith('{')) return parsePlatform(text);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new InvalidParameter('failed to parse platform', { cause });
  }
  const { os, architecture, variant } = document as { os?: unknown; architecture?: unknown; variant?: unknown };
  if (typeof os !== 'string' || typeof architecture !== 'string' || os === '' || architecture === '') {
    throw new InvalidParameter('both OS and Architecture must be provided');
  }
  return normalisePlatform({ os, architecture, ...(typeof variant === 'string' && variant !== '' ? { variant } : {}) });
}

export function platformOrHost(text: string): Platform {
  return toPlatform(text) ?? hostPlatform();
}
