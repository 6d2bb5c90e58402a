/** A build from its request to its image: context, Dockerfile, the stages that are needed, names. */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Cancelled, errorMessage, isNotFound, System } from '@flotilla/errors';
import { familiarString, hostPlatform } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import type { ProgressSink } from '../progress.ts';
import type { Puller } from '../pull.ts';
import { makeRoom } from '../room.ts';
import { BaseImages } from './baseImages.ts';
import type { Build } from './build.ts';
import { BuildArgs } from './buildArgs.ts';
import type { BuildCache } from './cache.ts';
import { ClassicOutput } from './classicOutput.ts';
import type { BuildClient } from './client.ts';
import { type BuildContext, openContext } from './context/open.ts';
import { CopySteps } from './copy/copyStep.ts';
import type { Credentials } from './credentials.ts';
import type { Dockerfile } from './dockerfile/instructions.ts';
import { parseDockerfile } from './dockerfile/parse.ts';
import { NamedContexts } from './namedContexts.ts';
import type { BuildOptions } from './options.ts';
import type { BuildOutput } from './output.ts';
import { runPlan } from './plan.ts';
import { platformArguments } from './platformArguments.ts';
import { RootFilesystems } from './rootFilesystems.ts';
import { type StepContainers, StepRunner, shortId } from './runStep.ts';
import { atEpoch } from './sourceDateEpoch.ts';
import type { BuiltStage } from './stageBuilder.ts';
import type { StepLayers } from './stepLayers.ts';

export interface BuilderOptions {
  readonly store: ImageStore;
  readonly puller: Puller;
  readonly cache: BuildCache;
  readonly layers: StepLayers;
  readonly containers: StepContainers;
  /** Where builds keep what is only theirs; on the content store's file system. */
  readonly directory: string;
  readonly instance: string;
}

/** What is to be built, and how it is told. */
export interface BuildJob {
  readonly options: BuildOptions;
  readonly output: BuildOutput;
  readonly credentials: Credentials;
  readonly contexts?: NamedContexts;
  readonly client?: BuildClient;
  /** Images that the cache may be taken from, beside those that the options name. */
  readonly importCache?: () => Promise<readonly Image[]>;
  /** Refuses by throwing. */
  readonly check?: (dockerfile: Dockerfile, context: BuildContext) => void;
  /** Opens the context. `work` is an empty directory. */
  readonly open: (place: { readonly work: string; readonly roots: RootFilesystems }, signal: AbortSignal) => Promise<BuildContext>;
}

export interface ClassicBuild {
  readonly options: BuildOptions;
  readonly credentials: Credentials;
  /** The context, unless `remote` says where it is. */
  readonly body: Readable;
}

export interface Made {
  readonly image: Image;
  readonly roots: RootFilesystems;
  /** SOURCE_DATE_EPOCH, seconds. */
  readonly epoch?: number;
}

/** What one build has of its own. */
type Place = Pick<Build, 'name' | 'context' | 'roots' | 'hold' | 'signal'>;

export class Builder {
  private readonly options: BuilderOptions;
  /** Builds under way, by name. */
  private readonly running = new Map<string, { readonly id: string; readonly abort: AbortController }>();

  constructor(options: BuilderOptions) {
    this.options = options;
  }

  /** Whether a build of this instance is under way. */
  isRunning(name: string): boolean {
    return this.running.has(name);
  }

  cancel(buildId: string): void {
    for (const { id, abort } of this.running.values()) if (id === buildId) abort.abort(new Cancelled('context canceled'));
  }

  /** A build of the classic API. @throws InvalidParameter for a wrong Dockerfile; CommandFailed when a RUN does; Forbidden. */
  async build({ options, credentials, body }: ClassicBuild, sink: ProgressSink, gone: AbortSignal): Promise<void> {
    for (const reference of options.tags) this.options.store.requireName(reference);
    const said: string[] = [];
    // Quiet: what is said counts only when the build fails.
    const quietSink: ProgressSink = (line) => said.push(line.stream ?? line.error ?? '');
    const output = new ClassicOutput(options.quiet ? quietSink : sink, options.aux);
    const open: BuildJob['open'] = ({ work }, signal) =>
      openContext({ body, remote: options.remote, dockerfile: options.dockerfile, signal, work });
    try {
      await this.run({ options, output, open, credentials }, gone, async ({ image }) => {
        const say = options.quiet ? undefined : sink;
        say?.({ stream: `Successfully built ${shortId(image.id)}\n` });
        for (const reference of options.tags) {
          await this.options.store.tag(image, reference);
          say?.({ stream: `Successfully tagged ${familiarString(reference)}\n` });
        }
        if (options.quiet) sink({ stream: `${image.id}\n` });
      });
    } catch (error) {
      if (options.quiet && said.length > 0) throw new System(said.join('') + errorMessage(error), { cause: error });
      throw error;
    }
  }

  /** @param finish - what becomes of the image. While it runs the image is held, and the build's root file systems are there. */
  run<T>(job: BuildJob, gone: AbortSignal, finish: (made: Made) => Promise<T>): Promise<T> {
    return this.within({ open: job.open, buildId: job.options.buildId, gone }, async (place) => {
      const dockerfile = parseDockerfile(place.context.dockerfileText);
      job.check?.(dockerfile, place.context);
      const cacheImages = (await job.importCache?.()) ?? [];
      for (const image of cacheImages) place.hold(image);
      const build = this.plan(job, place, { dockerfile, cacheImages });
      const made = await this.made(job, place, await runPlan(build, dockerfile));
      const finished = await finish(made);
      // Only prune asks for it: nobody waits for that.
      await this.options.cache.touch(build.usedKeys);
      return finished;
    });
  }

  private async made({ options }: BuildJob, place: Place, built: BuiltStage): Promise<Made> {
    place.hold(built.image);
    const { sourceDateEpoch: epoch } = options;
    if (epoch === undefined) return { image: built.image, roots: place.roots };
    const { store, cache } = this.options;
    const image = await atEpoch({ store, cache, ...built, epoch });
    place.hold(image);
    return { image, roots: place.roots, epoch };
  }

  /** Opens a context for its Dockerfile alone. @returns its text. */
  readDockerfile(open: BuildJob['open'], gone: AbortSignal): Promise<string> {
    return this.within({ open, buildId: '', gone }, async ({ context }) => context.dockerfileText);
  }

  /** Opens a context in a directory of its own, and takes all away afterwards. */
  private async within<T>(
    { open, buildId, gone }: { open: BuildJob['open']; buildId: string; gone: AbortSignal },
    work: (place: Place) => Promise<T>,
  ): Promise<T> {
    const name = `${this.options.instance}.${randomBytes(6).toString('hex')}`;
    const abort = new AbortController();
    const signal = AbortSignal.any([gone, abort.signal]);
    const directory = join(this.options.directory, name);
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    this.running.set(name, { id: buildId, abort });
    const { store } = this.options;
    const roots = new RootFilesystems(store.content, directory);
    const releases: (() => Promise<void>)[] = [];
    const hold = (held: Image): void => void releases.push(store.hold(held));
    let context: BuildContext | undefined;
    try {
      await makeRoom(store.content);
      context = await open({ work: roots.newDirectory('context'), roots }, signal);
      return await work({ name, context, roots, hold, signal });
    } finally {
      roots.close();
      await context?.remove();
      for (const release of releases) await release();
      this.running.delete(name);
      await rm(directory, { recursive: true, force: true });
    }
  }

  private plan(job: BuildJob, place: Place, { dockerfile, cacheImages }: { dockerfile: Dockerfile; cacheImages: readonly Image[] }): Build {
    const { store, cache, layers, containers, puller } = this.options;
    const { options } = job;
    const platform = options.platform ?? hostPlatform();
    return {
      ...place,
      options,
      store,
      images: new BaseImages({ store, puller, pull: options.pull, credentials: job.credentials }),
      args: new BuildArgs(options.buildArgs, platformArguments(platform, options.target)),
      cache,
      cacheSources: [...this.cacheSources(options), ...cacheImages],
      onlyCacheSources: options.cacheFrom.length > 0,
      contexts: job.contexts ?? new NamedContexts(),
      client: job.client,
      output: job.output,
      copies: new CopySteps(place.roots, layers),
      runner: new StepRunner({ containers, layers, content: store.content }),
      layers,
      platform,
      escape: dockerfile.directives.escapeToken,
      usedKeys: [],
    };
  }

  private cacheSources({ cacheFrom }: BuildOptions): Image[] {
    return cacheFrom.flatMap((name) => {
      try {
        return [this.options.store.find(name)];
      } catch (error) {
        // An image that is not here is no help, and no error.
        if (isNotFound(error)) return [];
        throw error;
      }
    });
  }
}
