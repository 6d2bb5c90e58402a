/** A build's context: unpacked, cloned or downloaded into a directory of its own, and its Dockerfile. */
import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, type Stats, writeFileSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { errorMessage, InvalidParameter, System } from '@flotilla/errors';
import { sniffCompression } from '@flotilla/oci';
import { Turns } from '../../turns.ts';
import type { ContextPaths } from '../contextPaths.ts';
import { unpack } from '../copy/archives.ts';
import type { DirectoryDigests } from '../copy/contentHash.ts';
import { cleanPath, leadsOutside, resolveInRoot, statOf } from '../copy/paths.ts';
import { contextFilter, hasExceptions } from './dockerignore.ts';
import { cloneRepository, parseGitSource } from './git.ts';

export interface BuildContext {
  /** The directory that holds at least these of the context's files; undefined: all. */
  files(paths: ContextPaths): Promise<string>;
  /** What is known of its directories from builds before; absent where nothing is. */
  digests?(): DirectoryDigests | undefined;
  readonly dockerfileText: string;
  /** The client's .dockerignore, where it keeps files back by that. */
  readonly ignoreText?: string;
  remove(): Promise<void>;
}

export interface ContextOptions {
  /** A tar, compressed or not; unread when `remote` names the context. */
  readonly body: Readable;
  /** A git repository, a tar or a Dockerfile by HTTP; empty: the body. `client-session` is BuildKit's. */
  readonly remote: string;
  /** The Dockerfile's path in the context; empty: Dockerfile. */
  readonly dockerfile: string;
  /** Whether a repository's own directory is in the context. */
  readonly keepGitDirectory?: boolean;
  /** An empty directory. */
  readonly work: string;
  readonly signal: AbortSignal;
}

interface Opened {
  readonly root: string;
  readonly dockerfileText: string;
}

const headerBytes = 512;
const maxDockerfileBytes = 16 * 1024 * 1024;
const ignoreFile = '.dockerignore';
const defaultDockerfile = 'Dockerfile';

/** @throws InvalidParameter in dockerd's words for a context that is none. */
export async function openContext(options: ContextOptions): Promise<BuildContext> {
  const { remote, dockerfile, work } = options;
  const name = dockerfile === '' ? defaultDockerfile : dockerfile;
  const remove = (): Promise<void> => rm(work, { recursive: true, force: true });
  try {
    if (remote === '') {
      const root = await unpackedIn(work, options.body, options.signal);
      const found = openDockerfile(root, name);
      await hideIgnored(root, found.path);
      return { files: async () => root, dockerfileText: found.text, remove };
    }
    options.body.resume();
    const opened = await openRemote({ ...options, dockerfile: name });
    return { files: async () => opened.root, dockerfileText: opened.dockerfileText, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function openRemote({ remote, dockerfile: name, work, signal, keepGitDirectory = false }: ContextOptions): Promise<Opened> {
  const git = parseGitSource(remote);
  if (git !== undefined) {
    const root = await cloneRepository(git, work, { keepGitDirectory, signal });
    const found = openDockerfile(root, name);
    await applyIgnoreFile(root, found.path);
    return { root, dockerfileText: found.text };
  }
  if (!/^https?:\/\//i.test(remote)) throw new InvalidParameter(`remoteURL (${remote}) could not be recognized as URL`);
  const { body, isText } = await fetched(remote, signal);
  if (isText) {
    const root = join(work, 'context');
    mkdirSync(root);
    const text = await textOf(body);
    writeFileSync(join(root, defaultDockerfile), text, { mode: 0o600 });
    return { root, dockerfileText: text };
  }
  const root = await unpackedIn(work, body, signal);
  const found = openDockerfile(root, name);
  await applyIgnoreFile(root, found.path);
  return { root, dockerfileText: found.text };
}

async function fetched(url: string, signal: AbortSignal): Promise<{ body: Readable; isText: boolean }> {
  let answer: Response;
  try {
    answer = await fetch(url, { signal, redirect: 'follow' });
  } catch (cause) {
    signal.throwIfAborted();
    throw new System(`error downloading remote context ${url}: ${errorMessage(cause)}`, { cause });
  }
  if (!answer.ok || answer.body === null) {
    throw new InvalidParameter(
      `error downloading remote context ${url}: failed to GET ${url} with status ${answer.status} ${answer.statusText}`,
    );
  }
  const type = (answer.headers.get('content-type') ?? '').split(';')[0]?.trim() ?? '';
  const body = Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]);
  if (type !== '' && type !== 'application/octet-stream') return { body, isText: type === 'text/plain' };
  // A server that knows no better: what is no archive is a Dockerfile.
  const { head, whole } = await peeked(body);
  return { body: whole, isText: sniffCompression(head) === 'none' && head.toString('latin1', 257, 262) !== 'ustar' };
}

/** The start of a stream, as much as a tar's header has, and all of it. */
async function peeked(body: Readable): Promise<{ head: Buffer; whole: Readable }> {
  const chunks = body.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  let start = Buffer.alloc(0);
  while (start.length < headerBytes) {
    const { value, done } = await chunks.next();
    if (done === true) break;
    start = Buffer.concat([start, value]);
  }
  const all = async function* (): AsyncGenerator<Buffer> {
    yield start;
    yield* chunks;
  };
  return { head: start.subarray(0, headerBytes), whole: Readable.from(all()) };
}

async function textOf(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxDockerfileBytes) throw new InvalidParameter('the Dockerfile is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function unpackedIn(work: string, body: Readable, signal: AbortSignal): Promise<string> {
  const root = join(work, 'context');
  mkdirSync(root);
  // The body may be a socket that the answer goes back on: reading it to an error must not close it.
  await unpack(body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>, root, signal);
  return root;
}

function openDockerfile(root: string, wanted: string): { path: string; text: string } {
  if (leadsOutside(wanted)) throw new InvalidParameter(`Forbidden path outside the build context: ${wanted}`);
  const path = findDockerfile(root, cleanPath(wanted), wanted === defaultDockerfile);
  let stat: Stats | undefined;
  let text = '';
  try {
    const fd = openSync(resolveInRoot(root, path), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    try {
      stat = fstatSync(fd);
      if (stat.isFile() && stat.size <= maxDockerfileBytes) text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch {
    // Not there, or no file to read: said below.
  }
  if (stat?.isFile() !== true || stat.size > maxDockerfileBytes)
    throw new InvalidParameter(`Cannot locate specified Dockerfile: ${wanted}`);
  if (stat.size === 0) throw new InvalidParameter(`the Dockerfile (${wanted}) cannot be empty`);
  return { path, text };
}

/** dockerd takes a `dockerfile` in small letters where nobody said a name. */
function findDockerfile(root: string, path: string, isDefault: boolean): string {
  if (!isDefault || statOf(resolveInRoot(root, path)) !== undefined) return path;
  return statOf(join(root, 'dockerfile')) === undefined ? path : 'dockerfile';
}

function readIgnoreFile(root: string, name: string): string | undefined {
  const path = resolveInRoot(root, name);
  const stat = statOf(path);
  if (stat?.isFile() !== true) return undefined;
  if (stat.size > maxDockerfileBytes) throw new InvalidParameter(`${name} is too large`);
  return readFileSync(path, 'utf8');
}

/** Clients send the Dockerfile and the ignore file whatever they say; COPY must not see them where they are ignored. */
async function hideIgnored(root: string, dockerfile: string): Promise<void> {
  const patterns = readIgnoreFile(root, ignoreFile);
  if (patterns === undefined) return;
  const ignored = contextFilter(patterns);
  for (const path of [ignoreFile, dockerfile]) if (ignored(path)) await rm(resolveInRoot(root, path, false), { force: true });
}

/** Contexts that no client has filtered. A `<Dockerfile>.dockerignore` beside the Dockerfile comes first. */
async function applyIgnoreFile(root: string, dockerfile: string): Promise<void> {
  const patterns = readIgnoreFile(root, `${dockerfile}${ignoreFile}`) ?? readIgnoreFile(root, ignoreFile);
  if (patterns === undefined) return;
  const ignored = contextFilter(patterns);
  const exceptions = hasExceptions(patterns);
  const turns = new Turns();
  const sweep = async (folder: string): Promise<void> => {
    for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      await turns.pass();
      const out = ignored(path);
      if (entry.isDirectory() && (!out || exceptions)) {
        await sweep(path);
        if (out && (await readdir(join(root, path))).length === 0) await rmdir(join(root, path));
      } else if (out) await rm(join(root, path), { recursive: true, force: true });
    }
  };
  await sweep('');
}
