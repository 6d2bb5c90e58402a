/** The context of a build that a client's session holds, or that its upload or a URL gives; and the Dockerfile. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { UploadService } from '@flotilla/contracts/moby/upload/v1/upload';
import { Cancelled, InvalidParameter } from '@flotilla/errors';
import { ignoreLines } from '../build/context/dockerignore.ts';
import { type BuildContext, openContext } from '../build/context/open.ts';
import { leadsOutside, resolveInRoot, statOf } from '../build/copy/paths.ts';
import { beginAsBefore, ClientDirectory } from './clientFiles.ts';
import type { ContextCopies } from './contextCopies.ts';
import { syncDirectory } from './fileSync.ts';
import type { FrontendSources } from './frontendOptions.ts';
import { KnownDirectory } from './knownDirectory.ts';
import type { Progress, VertexHandle } from './progress.ts';
import type { Session } from './session.ts';
import { SourceText } from './sourceText.ts';

const ignoreFile = '.dockerignore';
const maxDockerfileBytes = 16 * 1024 * 1024;

export interface SessionContextOptions {
  readonly session: Session;
  /** A tar that is the context, whatever the sources say. */
  readonly body: Readable | undefined;
  readonly sources: FrontendSources;
  readonly copies: ContextCopies;
  readonly progress: Progress;
  /** Is told of the Dockerfile as soon as it is known, and where warnings about it belong. */
  readonly found: (source: SourceText, definition: VertexHandle) => void;
  /** An empty directory. */
  readonly work: string;
  readonly signal: AbortSignal;
}

/** @throws InvalidParameter in dockerd's words. */
export async function openSessionContext(options: SessionContextOptions): Promise<BuildContext> {
  const { sources, body } = options;
  return sources.upload === '' && sources.remote === '' && body === undefined ? openClientDirectories(options) : openStream(options);
}

/** What was brought of a directory, and how that is shown. */
interface Brought {
  readonly root: string;
  show(vertex: VertexHandle): void;
}

/** The Dockerfile, and the lines of what it is to ignore: undefined where there are none. */
async function loadDockerfile({
  session,
  sources,
  progress,
  found,
  work,
  signal,
}: SessionContextOptions): Promise<{ text: string; patterns: string | undefined }> {
  const { dockerfile: name } = sources;
  const bring = async (directory: string, paths: readonly string[], ended: AbortSignal): Promise<Brought> => {
    const root = join(work, `${directory.replace(/[^\w.-]/g, '_')}-${paths.length}`);
    mkdirSync(root);
    let current = 0;
    await syncDirectory(
      session.connection,
      { directory, paths, excludes: [] },
      { path: root, known: new KnownDirectory() },
      (bytes) => (current = bytes),
      ended,
    );
    const bar = { id: `transferring ${directory}:`, name: 'transferring', total: 0, current, isComplete: true };
    return { root, show: (vertex) => vertex.bar(bar) };
  };
  const early = new AbortController();
  // Comes at the same time as the Dockerfile: the other way around a build waits for its client once more.
  const ignoreFiles = bring(sources.contextDirectory, [ignoreFile], AbortSignal.any([signal, early.signal]));
  ignoreFiles.catch(() => undefined);
  let beside: string | undefined;
  try {
    const text = await progress.during(`[internal] load build definition from ${name}`, async (vertex) => {
      const { root, show } = await bring(sources.dockerfileDirectory, [name, `${name}${ignoreFile}`, 'dockerfile'], signal);
      show(vertex);
      beside = readText(root, `${name}${ignoreFile}`);
      const dockerfile = readText(root, name) ?? (name === 'Dockerfile' ? readText(root, 'dockerfile') : undefined);
      if (dockerfile === undefined) throw new InvalidParameter(`failed to read dockerfile: open ${name}: no such file or directory`);
      found(new SourceText(name, dockerfile), vertex);
      return dockerfile;
    });
    const patterns = await progress.during('[internal] load .dockerignore', async (vertex) => {
      if (beside !== undefined) return beside;
      const { root, show } = await ignoreFiles;
      show(vertex);
      return readText(root, ignoreFile);
    });
    return { text, patterns };
  } finally {
    early.abort(new Cancelled('it is not needed'));
    await ignoreFiles.catch(() => undefined);
  }
}

async function openClientDirectories(options: SessionContextOptions): Promise<BuildContext> {
  const { session, sources, copies, progress, signal } = options;
  const { contextDirectory: name } = sources;
  const begun = beginAsBefore({ session, copies, name }, signal);
  try {
    const { text, patterns } = await loadDockerfile(options);
    const title = '[internal] load build context';
    const directory = new ClientDirectory({ session, copies, progress, name, title, excludes: ignoreLines(patterns ?? ''), signal, begun });
    return {
      dockerfileText: text,
      ...(patterns === undefined ? {} : { ignoreText: patterns }),
      files: (paths) => directory.files(paths),
      digests: () => directory.digests,
      remove: () => directory.release(),
    };
  } catch (error) {
    begun?.cancel();
    throw error;
  }
}

function readText(root: string, name: string): string | undefined {
  if (leadsOutside(name)) throw new InvalidParameter(`forbidden path outside the build context: ${name}`);
  const path = resolveInRoot(root, name);
  const stat = statOf(path);
  if (stat?.isFile() !== true) return undefined;
  if (stat.size > maxDockerfileBytes) throw new InvalidParameter(`${name} is too large`);
  return readFileSync(path, 'utf8');
}

async function openStream({ session, body: given, sources, progress, found, work, signal }: SessionContextOptions): Promise<BuildContext> {
  const title = sources.remote !== '' ? `[internal] load remote build context ${sources.remote}` : '[internal] load build context';
  return progress.during(title, async (vertex) => {
    const body = given ?? (sources.upload === '' ? Readable.from([]) : Readable.from(upload(session, sources.upload, signal)));
    const context = await openContext({ ...sources, body, work, signal });
    found(new SourceText(sources.dockerfile, context.dockerfileText), vertex);
    return context;
  });
}

/** What the client was given on its standard input. */
async function* upload(session: Session, id: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const metadata = [
    ['urlpath', `/${id}`],
    ['urlhost', 'buildkit-session'],
  ] as const;
  const exchange = session.connection.open(UploadService.pull, metadata, signal);
  exchange.end();
  for await (const messages of exchange.batches()) for (const { data } of messages) yield data;
}
