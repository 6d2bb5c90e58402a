/** The frontend `dockerfile.v0`: a client's options become a build of ours, whose image is there until the job ends. */
import { randomBytes } from 'node:crypto';
import type { Definition } from '@flotilla/contracts/pb/ops';
import { InvalidParameter, NotFound, NotImplemented } from '@flotilla/errors';
import { hostPlatform } from '@flotilla/oci';
import type { Builder, Made } from '../build/builder.ts';
import { cloneRepository, parseGitSource } from '../build/context/git.ts';
import type { BuildContext } from '../build/context/open.ts';
import type { Dockerfile } from '../build/dockerfile/instructions.ts';
import type { NamedContext } from '../build/namedContexts.ts';
import { NamedContexts } from '../build/namedContexts.ts';
import type { BuildOptions } from '../build/options.ts';
import type { BuildOutput } from '../build/output.ts';
import type { RootFilesystems } from '../build/rootFilesystems.ts';
import type { ImageStore } from '../imageStore.ts';
import type { Puller } from '../pull.ts';
import { answerAbout, BuildChecks } from './buildChecks.ts';
import { importCaches } from './cacheImports.ts';
import { ClientDirectory } from './clientFiles.ts';
import type { ContextCopies } from './contextCopies.ts';
import { type FrontendOptions, namedContextsOf, runsHere, toBuildOptions, toSources } from './frontendOptions.ts';
import type { Job, Jobs } from './job.ts';
import type { Session, Sessions } from './session.ts';
import { SessionClient, sessionCredentials } from './sessionClient.ts';
import { openSessionContext } from './sessionContext.ts';
import { SourceText } from './sourceText.ts';
import { resultIdOf } from './standIn.ts';
import { type Answer, describe, type Question } from './subrequests.ts';
import { VertexOutput } from './vertexOutput.ts';

export interface FrontendParts {
  readonly builder: Builder;
  readonly store: ImageStore;
  readonly puller: Puller;
  readonly sessions: Sessions;
  readonly jobs: Jobs;
  readonly copies: ContextCopies;
}

export interface FrontendRequest {
  readonly options: FrontendOptions;
  readonly inputs: Readonly<Record<string, Definition>>;
  /** Images that the cache may be taken from. */
  readonly cacheFrom: readonly string[];
}

/** Names of the frontend that ours stands for. */
const officialSyntax = /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?$/;

export class Frontend {
  private readonly parts: FrontendParts;

  constructor(parts: FrontendParts) {
    this.parts = parts;
  }

  /** Answers a question about the Dockerfile, which is brought here for it; nothing is built. @throws InvalidParameter in BuildKit's words. */
  async answer(job: Job, question: Question, request: FrontendRequest): Promise<Answer> {
    if (question === 'frontend.subrequests.describe') return describe();
    const { builder, sessions, copies, store } = this.parts;
    const session = await sessions.wait(job.sessionId, job.signal);
    const signal = AbortSignal.any([job.signal, session.connection.closed]);
    const sources = toSources(request.options);
    let source = new SourceText(sources.dockerfile, '');
    let ignored: Pick<BuildContext, 'ignoreText'> = {};
    await builder.readDockerfile(async ({ work }) => {
      const context = await openSessionContext({
        session,
        body: job.body,
        sources,
        copies,
        progress: job.progress,
        work,
        signal,
        found: (given) => {
          source = given;
          job.source = given;
        },
      });
      ignored = context;
      return context;
    }, signal);
    const subject = { options: toBuildOptions(request.options), contexts: namedContextsOf(request.options), store };
    return answerAbout(question, source, subject, ignored);
  }

  /** Builds. @returns the id of the result in the job. @throws what the build throws. */
  async solve(job: Job, request: FrontendRequest): Promise<{ id: string; made: Made }> {
    const { jobs, sessions } = this.parts;
    const options = { ...toBuildOptions(request.options), hostNetwork: job.entitlements.has('network.host') };
    const session = await sessions.wait(job.sessionId, job.signal);
    const signal = AbortSignal.any([job.signal, session.connection.closed]);
    const id = randomBytes(12).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<Made>();
    job.during(
      this.build(job, session, request, options, signal, async (made) => {
        job.results.set(id, made);
        jobs.noteImage(id, made.image.id);
        resolve(made);
        await job.ended;
      }).catch(reject),
    );
    return { id, made: await promise };
  }

  private async build(
    job: Job,
    session: Session,
    request: FrontendRequest,
    options: BuildOptions,
    signal: AbortSignal,
    finish: (made: Made) => Promise<void>,
  ): Promise<void> {
    const { builder, copies, store, puller } = this.parts;
    const credentials = sessionCredentials(session, signal);
    const { progress } = job;
    let roots: RootFilesystems | undefined;
    const place = (kind: string): string => {
      if (roots === undefined) throw new InvalidParameter('the build has not begun');
      return roots.newDirectory(kind);
    };
    const client = new SessionClient(session, () => place('agent'), signal);
    const directories: ClientDirectory[] = [];
    const files = (directory: string, title: string): ClientDirectory => {
      const made = new ClientDirectory({ session, copies, progress, name: directory, title, excludes: [], signal });
      directories.push(made);
      return made;
    };
    const output = new LateOutput();
    const checks = new BuildChecks({ options, contexts: namedContextsOf(request.options), store });
    try {
      await builder.run(
        {
          options,
          output,
          credentials,
          contexts: this.contexts(request, files, place, signal),
          client,
          open: (given) => {
            roots = given.roots;
            return openSessionContext({
              session,
              body: job.body,
              sources: toSources(request.options),
              copies,
              progress,
              work: given.work,
              signal,
              found: (source, definition) => {
                job.source = source;
                output.set(new VertexOutput(progress, definition, source));
                checks.found(source, definition);
              },
            });
          },
          importCache: () =>
            importCaches(request.cacheFrom, { store, puller, platform: options.platform ?? hostPlatform(), credentials, progress, signal }),
          check: (dockerfile, context) => {
            checkDockerfile(dockerfile, options);
            checks.begin(dockerfile, context);
          },
        },
        signal,
        (made) => {
          checks.tell();
          return finish(made);
        },
      );
    } finally {
      client.close();
      for (const directory of directories) await directory.release();
      checks.tell();
    }
  }

  private contexts(
    request: FrontendRequest,
    files: (directory: string, title: string) => ClientDirectory,
    place: (kind: string) => string,
    signal: AbortSignal,
  ): NamedContexts {
    const contexts = new Map<string, NamedContext>();
    for (const [name, where] of namedContextsOf(request.options)) {
      if (name.includes('::')) continue;
      contexts.set(name, this.context(name, where, request, files, place, signal));
    }
    return new NamedContexts(contexts);
  }

  private context(
    name: string,
    where: string,
    { inputs }: FrontendRequest,
    files: (directory: string, title: string) => ClientDirectory,
    place: (kind: string) => string,
    signal: AbortSignal,
  ): NamedContext {
    const image = /^docker-image:\/\/(.+)$/.exec(where)?.[1];
    if (image !== undefined) return { kind: 'image', reference: image };
    const local = /^local:(.+)$/.exec(where)?.[1];
    if (local !== undefined) {
      const directory = files(local, `[context ${name}] load from client`);
      return { kind: 'files', root: () => directory.files(undefined) };
    }
    const input = /^input:(.+)$/.exec(where)?.[1];
    if (input !== undefined) return this.input(name, inputs[input]);
    const git = parseGitSource(where);
    if (git === undefined) throw new NotImplemented(`unsupported context source ${where} for ${name}`);
    let cloned: Promise<string> | undefined;
    const clone = (): Promise<string> => cloneRepository(git, place('git'), { keepGitDirectory: false, signal });
    return { kind: 'files', root: () => (cloned ??= clone()) };
  }

  /** What another build of the client has made. */
  private input(name: string, definition: Definition | undefined): NamedContext {
    const id = definition === undefined ? undefined : resultIdOf(definition);
    if (id === undefined)
      throw new NotImplemented(`the context ${name} is a definition of the client's own, which this engine does not solve`);
    const digest = this.parts.jobs.imageOf(id);
    const image = digest === undefined ? undefined : this.parts.store.get(digest);
    if (image === undefined) throw new NotFound(`the result that the context ${name} names is gone`);
    return { kind: 'built', image };
  }
}

/** The voice of a build whose Dockerfile is still on its way. */
class LateOutput implements BuildOutput {
  private output: BuildOutput | undefined;

  set(output: BuildOutput): void {
    this.output = output;
  }

  private get own(): BuildOutput {
    if (this.output === undefined) throw new InvalidParameter('the Dockerfile is not known yet');
    return this.output;
  }

  start(...args: Parameters<BuildOutput['start']>): void {
    this.own.start(...args);
  }

  stage(...args: Parameters<BuildOutput['stage']>): ReturnType<BuildOutput['stage']> {
    return this.own.stage(...args);
  }

  unconsumed(...args: Parameters<BuildOutput['unconsumed']>): void {
    this.own.unconsumed(...args);
  }
}

/** @throws for a language that is not ours, and for a platform that needs emulation. */
function checkDockerfile({ directives, stages }: Dockerfile, { buildArgs, platform }: BuildOptions): void {
  const syntax = buildArgs.get('BUILDKIT_SYNTAX') ?? directives.syntax;
  if (syntax !== undefined && !officialSyntax.test(syntax.trim())) {
    throw new NotImplemented(
      `the frontend ${syntax} is not available: this engine serves docker/dockerfile itself, and runs no other frontend`,
    );
  }
  const runs = stages.some(({ instructions }) => instructions.some(({ kind }) => kind === 'run'));
  if (platform !== undefined && runs && !runsHere(platform)) {
    throw new NotImplemented(
      `steps for ${platform.os}/${platform.architecture} cannot be run on this host: it has no emulation of that platform`,
    );
  }
}
