/** Descriptors: how one blob points at another. @see OCI image-spec descriptor.md */
import { type Digest, parseDigest } from './digest.ts';
import { asObject, optionalInteger, optionalString, optionalStringMap, optionalStrings, requiredString } from './document.ts';
import { InvalidContent } from './errors.ts';
import type { Platform } from './platform.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  readonly artifactType?: string;
}

/** The largest blob anyone may describe: 1 TiB. */
const maxBlobBytes = 1024 ** 4;

/** @throws InvalidContent */
export function parseDescriptor(what: string, value: unknown): Descriptor {
  const object = asObject(what, value);
  const size = optionalInteger(`${what}.size`, object.size);
  if (size === undefined || size < 0 || size > maxBlobBytes) throw new InvalidContent(`${what}.size is out of range`);
  const urls = optionalStrings(`${what}.urls`, object.urls, 64);
  const annotations = optionalStringMap(`${what}.annotations`, object.annotations);
  const artifactType = optionalString(`${what}.artifactType`, object.artifactType);
  return {
    mediaType: requiredString(`${what}.mediaType`, object.mediaType),
    digest: contentDigest(`${what}.digest`, object.digest),
    size,
    ...(urls === undefined ? {} : { urls }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(object.platform === undefined || object.platform === null
      ? {}
      : { platform: parsePlatformObject(`${what}.platform`, object.platform) }),
    ...(artifactType === undefined || artifactType === '' ? {} : { artifactType }),
  };
}

/** A digest inside a document. @throws InvalidContent */
export function contentDigest(what: string, value: unknown): Digest {
  try {
    return parseDigest(requiredString(what, value));
  } catch (cause) {
    throw new InvalidContent(`${what}: ${cause instanceof Error ? cause.message : 'invalid digest'}`, { cause });
  }
}

function parsePlatformObject(what: string, value: unknown): Platform {
  const object = asObject(what, value);
  const variant = optionalString(`${what}.variant`, object.variant);
  const osVersion = optionalString(`${what}.os.version`, object['os.version']);
  const osFeatures = optionalStrings(`${what}.os.features`, object['os.features'], 64);
  return {
    os: optionalString(`${what}.os`, object.os) ?? '',
    architecture: optionalString(`${what}.architecture`, object.architecture) ?? '',
    ...(variant === undefined || variant === '' ? {} : { variant }),
    ...(osVersion === undefined || osVersion === '' ? {} : { 'os.version': osVersion }),
    ...(osFeatures === undefined ? {} : { 'os.features': osFeatures }),
  };
}
