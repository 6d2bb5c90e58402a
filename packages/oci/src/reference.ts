/**
 * References as docker writes them: `[host[:port]/]path[:tag][@digest]`, normalised (`busybox` is `docker.io/library/busybox`) and familiar
 * (the reverse). Grammar and errors follow github.com/distribution/reference.
 */
import { type Digest, isDigest, parseDigest } from './digest.ts';
import { InvalidName } from './errors.ts';

/** A normalised reference. */
export interface Reference {
  /** Registry host, `docker.io` when none was written. */
  readonly domain: string;
  /** Repository below the host, `library/busybox`. */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const defaultDomain = 'docker.io';
const legacyDefaultDomain = 'index.docker.io';
const officialPrefix = 'library/';
const defaultTag = 'latest';
const maxPathLength = 255;
/** Longer than any valid reference with tag and digest: keeps the patterns from running over absurd input. */
const maxReferenceLength = 1024;

const pathComponent = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const path = `${pathComponent}(?:/${pathComponent})*`;
const domainComponent = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domain = `(?:${domainComponent}(?:\\.${domainComponent})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const tag = '\\w[\\w.-]{0,127}';
const digest = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}';
const referencePattern = new RegExp(`^(${domain})/(${path})(?::(${tag}))?(?:@(${digest}))?$`);
const tagPattern = new RegExp(`^${tag}$`);
const identifierPattern = /^[a-f0-9]{64}$/;

/**
 * Parses what a person or client wrote into a normalised reference; no tag is added.
 *
 * @throws InvalidName with dockerd's message.
 */
export function parseReference(text: string): Reference {
  if (identifierPattern.test(text)) {
    throw new InvalidName(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  if (text.length > maxReferenceLength) throw new InvalidName('invalid reference format');
  const [host, remainder] = splitDomain(text);
  const colon = remainder.indexOf(':');
  const remote = colon === -1 ? remainder : remainder.slice(0, colon);
  if (remote.toLowerCase() !== remote) {
    throw new InvalidName(`invalid reference format: repository name (${remote}) must be lowercase`);
  }
  const match = referencePattern.exec(`${host}/${remainder}`);
  const matchedDomain = match?.[1];
  const matchedPath = match?.[2];
  if (matchedDomain === undefined || matchedPath === undefined) throw new InvalidName('invalid reference format');
  if (matchedPath.length > maxPathLength) {
    throw new InvalidName(`invalid reference format: repository name must not be more than ${maxPathLength} characters`);
  }
  return {
    domain: matchedDomain,
    path: matchedPath,
    ...(match?.[3] === undefined ? {} : { tag: match[3] }),
    ...(match?.[4] === undefined ? {} : { digest: parseReferenceDigest(match[4]) }),
  };
}

function parseReferenceDigest(text: string): Digest {
  try {
    return parseDigest(text);
  } catch (cause) {
    throw new InvalidName('invalid reference format', { cause });
  }
}

function splitDomain(name: string): [domain: string, remainder: string] {
  const slash = name.indexOf('/');
  if (slash === -1) return [defaultDomain, officialPrefix + name];
  const first = name.slice(0, slash);
  const rest = name.slice(slash + 1);
  let host = defaultDomain;
  let remainder = name;
  if (first === legacyDefaultDomain) remainder = rest;
  else if (first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first) [host, remainder] = [first, rest];
  if (host === defaultDomain && !remainder.includes('/')) remainder = officialPrefix + remainder;
  return [host, remainder];
}

/** Either a reference or an id: 64 hex digits or a bare digest name an image by id. */
export function parseAnyReference(text: string): { readonly id: Digest } | { readonly reference: Reference } {
  if (identifierPattern.test(text)) return { id: `sha256:${text}` };
  if (isDigest(text)) return { id: text };
  return { reference: parseReference(text) };
}

/** With `latest` when it has neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: defaultTag } : reference;
}

/** The same repository with this tag. @throws InvalidName `invalid tag format`. */
export function withTag(reference: Reference, newTag: string): Reference {
  if (!tagPattern.test(newTag)) throw new InvalidName('invalid tag format');
  return { domain: reference.domain, path: reference.path, tag: newTag };
}

/** The same repository with this digest. */
export function withDigest(reference: Reference, newDigest: string): Reference {
  return { domain: reference.domain, path: reference.path, digest: parseDigest(newDigest) };
}

/** `docker.io/library/busybox`: the repository in full. */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** `busybox`: the repository as docker shows it. */
export function familiarName(reference: Reference): string {
  if (reference.domain !== defaultDomain) return repositoryName(reference);
  const short = reference.path.startsWith(officialPrefix) ? reference.path.slice(officialPrefix.length) : reference.path;
  return short.includes('/') ? reference.path : short;
}

function suffix(reference: Reference): string {
  return (reference.tag === undefined ? '' : `:${reference.tag}`) + (reference.digest === undefined ? '' : `@${reference.digest}`);
}

/** The whole reference, normalised: `docker.io/library/busybox:1.36`. */
export function referenceString(reference: Reference): string {
  return repositoryName(reference) + suffix(reference);
}

/** The whole reference as docker shows it: `busybox:1.36`. */
export function familiarString(reference: Reference): string {
  return familiarName(reference) + suffix(reference);
}

/**
 * What docker's `reference` filter does: a shell pattern against the familiar string, or the familiar name.
 *
 * @throws InvalidName for a malformed pattern (Go's `syntax error in pattern`).
 */
export function familiarMatch(pattern: string, reference: Reference): boolean {
  const matcher = globPattern(pattern);
  return matcher.test(familiarString(reference)) || matcher.test(familiarName(reference));
}

/** Go's path.Match as a regular expression: `*` and `?` stop at slashes, `[…]` is a class, `\` quotes. */
function globPattern(pattern: string): RegExp {
  const malformed = new InvalidName('syntax error in pattern');
  if (pattern.length > maxReferenceLength) throw malformed;
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern.charAt(i);
    if (character === '*') {
      if (!source.endsWith('[^/]*')) source += '[^/]*';
    } else if (character === '?') source += '[^/]';
    else if (character === '\\') {
      i++;
      if (i >= pattern.length) throw malformed;
      source += quote(pattern.charAt(i));
    } else if (character === '[') {
      const end = pattern.indexOf(']', i + 2);
      if (end === -1) throw malformed;
      source += classPattern(pattern.slice(i + 1, end));
      i = end;
    } else source += quote(character);
  }
  try {
    return new RegExp(`^${source}$`, 's');
  } catch (cause) {
    throw new InvalidName(malformed.message, { cause });
  }
}

function classPattern(body: string): string {
  const negated = body.startsWith('^');
  const members = (negated ? body.slice(1) : body).replace(/[\\\]^[]/g, '\\$&');
  return `[${negated ? '^' : ''}${members}]`;
}

function quote(character: string): string {
  return /[a-zA-Z0-9_/]/.test(character) ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
