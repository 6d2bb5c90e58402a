/** The context of a build that a client's session holds, or that its upload or a URL gives; and the Dockerfile. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { UploadService } from '@flotilla/contracts/moby/upload/v1/upload';
import { InvalidParameter } from '@flotilla/errors';
import { ignoreLines } from '../build/context/dockerignore.ts';
import { type BuildContext, openContext } from '../build/context/open.ts';
import { leadsOutside, resolveInRoot, statOf } from '../build/copy/paths.ts';
import { ClientDirectory } from './clientFiles.ts';
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
  const { sources } = options;
  return sources.upload === '' && sources.remote === '' ? openClientDirectories(options) : openStream(options);
}

async function openClientDirectories({
  session,
  sources,
  copies,
  progress,
  found,
  work,
  signal,
}: SessionContextOptions): Promise<BuildContext> {
  const { dockerfile: name } = sources;
  const bring = async (vertex: VertexHandle, directory: string, paths: readonly string[]): Promise<string> => {
    const target = join(work, `${directory.replace(/[^\w.-]/g, '_')}-${paths.length}`);
    mkdirSync(target);
    const bar = { id: `transferring ${directory}:`, name: 'transferring', total: 0 };
    let current = 0;
    await syncDirectory(
      session.connection,
      { directory, paths, excludes: [] },
      { path: target, known: new KnownDirectory() },
      (bytes) => (current = bytes),
      signal,
    );
    vertex.bar({ ...bar, current, isComplete: true });
    return target;
  };
  let beside: string | undefined;
  const text = await progress.during(`[internal] load build definition from ${name}`, async (vertex) => {
    const files = await bring(vertex, sources.dockerfileDirectory, [name, `${name}${ignoreFile}`, 'dockerfile']);
    beside = readText(files, `${name}${ignoreFile}`);
    const dockerfile = readText(files, name) ?? (name === 'Dockerfile' ? readText(files, 'dockerfile') : undefined);
    if (dockerfile === undefined) throw new InvalidParameter(`failed to read dockerfile: open ${name}: no such file or directory`);
    found(new SourceText(name, dockerfile), vertex);
    return dockerfile;
  });
  const patterns = await progress.during(
    '[internal] load .dockerignore',
    async (vertex) => beside ?? readText(await bring(vertex, sources.contextDirectory, [ignoreFile]), ignoreFile),
  );
  const directory = new ClientDirectory({
    session,
    copies,
    progress,
    name: sources.contextDirectory,
    title: '[internal] load build context',
    excludes: ignoreLines(patterns ?? ''),
    signal,
  });
  return {
    dockerfileText: text,
    ...(patterns === undefined ? {} : { ignoreText: patterns }),
    files: (paths) => directory.files(paths),
    digests: () => directory.digests,
    remove: () => directory.release(),
  };
}

function readText(root: string, name: string): string | undefined {
  if (leadsOutside(name)) throw new InvalidParameter(`forbidden path outside the build context: ${name}`);
  const path = resolveInRoot(root, name);
  const stat = statOf(path);
  if (stat?.isFile() !== true) return undefined;
  if (stat.size > maxDockerfileBytes) throw new InvalidParameter(`${name} is too large`);
  return readFileSync(path, 'utf8');
}

async function openStream({ session, sources, progress, found, work, signal }: SessionContextOptions): Promise<BuildContext> {
  const title = sources.upload === '' ? `[internal] load remote build context ${sources.remote}` : '[internal] load build context';
  return progress.during(title, async (vertex) => {
    const body = sources.upload === '' ? Readable.from([]) : Readable.from(upload(session, sources.upload, signal));
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
