/** COPY and ADD: which sources are meant, what the cache knows them by, and how they are copied. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { patternFilter } from './context/dockerignore.ts';
import { cloneRepository, type GitSource, parseGitSource } from './context/git.ts';
import { contextPaths } from './contextPaths.ts';
import { contentHash } from './copy/contentHash.ts';
import { absoluteDestination, type CopyRequest, type CopySource, findSources, sourcesHash } from './copy/copyStep.ts';
import type { PathFilter } from './copy/copyTree.ts';
import { download, isUrl } from './copy/download.ts';
import type { Add, Copy } from './dockerfile/instructions.ts';
import type { BuildManner } from './options.ts';
import { epochOf } from './sourceDateEpoch.ts';
import { rootOf } from './sourceRoots.ts';
import type { StageBuilder } from './stageBuilder.ts';

export async function copyFiles(stage: StageBuilder, instruction: Copy | Add): Promise<void> {
  const { build, state } = stage;
  const name = instruction.kind === 'copy' ? 'COPY' : 'ADD';
  const from = instruction.kind === 'copy' && instruction.from !== undefined ? stage.expand(instruction.from) : '';
  const chown = stage.expand(instruction.chown ?? '');
  const keepOwners = from !== '' && chown === '';
  const excludes = instruction.excludes.map((pattern) => stage.expand(pattern));
  const excluded: PathFilter | undefined = excludes.length === 0 ? undefined : patternFilter(excludes);
  const words = instruction.sources.map((source) => stage.expand(source));
  if (instruction.kind === 'add' && instruction.checksum !== undefined) checkVerifiable([...words, ...instruction.inline]);
  const root = await rootOf(stage, from, contextPaths(words));
  const digests = from === '' ? build.context.digests?.() : undefined;
  const sources: CopySource[] = [];
  for (const written of words) {
    if (isUrl(written) || parseGitSource(written) !== undefined) sources.push(await remoteSource(stage, instruction, written));
    else {
      const options = {
        instruction: name,
        isContext: from === '',
        keepOwners,
        unpack: instruction.kind === 'add' && instruction.unpack !== false,
        parents: instruction.parents,
        ...(excluded === undefined ? {} : { excluded }),
        ...(digests === undefined ? {} : { digests }),
      } as const;
      sources.push(...(await findSources(root, written, options, build.signal)));
    }
  }
  sources.push(...(await inlineSources(stage, instruction)));
  if (sources.length === 0) throw new InvalidParameter(`${name} failed: no source files were specified`);
  const destination = stage.expand(instruction.destination);
  if (sources.length > 1 && !absoluteDestination(destination, state.workingDirectory).endsWith('/') && destination !== '/') {
    throw new InvalidParameter(`When using ${name} with more than one source file, the destination must be a directory and end with a /`);
  }
  const request: CopyRequest = {
    instruction: name,
    sources,
    destination,
    workingDirectory: state.workingDirectory,
    chown,
    chmod: stage.expand(instruction.chmod ?? ''),
    keepOwners,
    parents: instruction.parents,
    link: instruction.link,
    ...(excluded === undefined ? {} : { excluded }),
    manner: build.options.manner,
    ...epochOf(build.options),
  };
  const history = `${name} ${chown === '' ? '' : `--chown=${chown}`}${sourcesHash(sources)} in ${destination} `;
  const content = [
    request.chmod,
    request.parents,
    request.link,
    excludes,
    request.sources.map(({ path, unpack }) => [path, unpack]),
    state.workingDirectory,
    ...ownerRules(build.options.manner, chown),
    ...Object.values(epochOf(build.options)).map(String),
  ];
  await stage.takeStep(`${state.shell.join(' ')} #(nop) ${history}`, content, () => build.copies.copy(request, state.layers, build.signal));
}

/** A user's name alone means another group with each builder. */
function ownerRules(manner: BuildManner, chown: string): BuildManner[] {
  return /^\d*$|:/.test(chown) ? [] : [manner];
}

/** What a checksum can be told of. @throws InvalidParameter in BuildKit's words. */
function checkVerifiable([only, ...more]: readonly (string | object)[]): void {
  if (more.length > 0) throw new InvalidParameter("checksum can't be specified for multiple sources");
  if (typeof only !== 'string' || !(isUrl(only) || parseGitSource(only) !== undefined))
    throw new InvalidParameter('checksum requires HTTP(S) or Git sources');
}

async function remoteSource(stage: StageBuilder, instruction: Copy | Add, url: string): Promise<CopySource> {
  if (instruction.kind === 'copy') throw new InvalidParameter("COPY failed: source can't be a URL for COPY");
  const git = parseGitSource(url);
  if (git !== undefined) return gitSource(stage, instruction, git);
  const checksum = instruction.checksum === undefined ? '' : stage.expand(instruction.checksum);
  const root = stage.build.roots.newDirectory('download');
  const { output } = stage;
  return download(url, { root, checksum, destination: stage.expand(instruction.destination), output, signal: stage.build.signal });
}

async function gitSource(stage: StageBuilder, { keepGitDir, checksum }: Add, git: GitSource): Promise<CopySource> {
  const { build } = stage;
  const expected = checksum === undefined ? {} : { checksum: stage.expand(checksum) };
  const folder = await cloneRepository(git, build.roots.newDirectory('git'), {
    keepGitDirectory: keepGitDir,
    ...expected,
    signal: build.signal,
  });
  return { root: folder, path: '.', hash: await contentHash(folder, { owners: false }, build.signal), unpack: false };
}

/** Here-documents: files that the Dockerfile itself holds. */
async function inlineSources(stage: StageBuilder, { inline }: Copy | Add): Promise<CopySource[]> {
  if (inline.length === 0) return [];
  const root = stage.build.roots.newDirectory('inline');
  const sources: CopySource[] = [];
  for (const document of inline) {
    const path = join(root, document.name);
    writeFileSync(path, document.expand ? stage.expandText(document.content) : document.content);
    chmodSync(path, 0o644);
    sources.push({ root, path: document.name, hash: await contentHash(path, { owners: false }, stage.build.signal), unpack: false });
  }
  return sources;
}
