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
import { BaseImages } from './baseImages.ts';
import { BuildArgs } from './buildArgs.ts';
import type { BuildCache } from './cache.ts';
import { type BuildContext, openContext } from './context/open.ts';
import { CopySteps } from './copy/copyStep.ts';
import { parseDockerfile } from './dockerfile/parse.ts';
import type { BuildOptions } from './options.ts';
import { runPlan } from './plan.ts';
import { platformArguments } from './platformArguments.ts';
import { RootFilesystems } from './rootFilesystems.ts';
import { type StepContainers, StepRunner, shortId } from './runStep.ts';
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

  /** @throws InvalidParameter for a wrong Dockerfile; CommandFailed when a RUN does. */
  async build(options: BuildOptions, body: Readable, sink: ProgressSink, gone: AbortSignal): Promise<void> {
    const name = `${this.options.instance}.${randomBytes(6).toString('hex')}`;
    const abort = new AbortController();
    const signal = AbortSignal.any([gone, abort.signal]);
    const directory = join(this.options.directory, name);
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    this.running.set(name, { id: options.buildId, abort });
    const said: string[] = [];
    try {
      // Quiet: what is said counts only when the build fails.
      const quietSink: ProgressSink = (line) => said.push(line.stream ?? line.error ?? '');
      const image = await this.make(name, directory, options, body, options.quiet ? quietSink : sink, signal);
      if (options.quiet) sink({ stream: `${image.id}\n` });
    } catch (error) {
      if (options.quiet && said.length > 0) throw new System(said.join('') + errorMessage(error), { cause: error });
      throw error;
    } finally {
      this.running.delete(name);
      await rm(directory, { recursive: true, force: true });
    }
  }

  private async make(
    name: string,
    directory: string,
    options: BuildOptions,
    body: Readable,
    sink: ProgressSink,
    signal: AbortSignal,
  ): Promise<Image> {
    const { store, cache, layers, containers, puller } = this.options;
    const roots = new RootFilesystems(store.content, directory);
    const work = roots.newDirectory('context');
    const releases: (() => Promise<void>)[] = [];
    let context: BuildContext | undefined;
    try {
      context = await openContext({ body, remote: options.remote, dockerfile: options.dockerfile, signal, work });
      const dockerfile = parseDockerfile(context.dockerfileText);
      const platform = options.platform ?? hostPlatform();
      const image = await runPlan(
        {
          name,
          options,
          store,
          images: new BaseImages({ store, puller, pull: options.pull, credentials: options.credentials }),
          args: new BuildArgs(options.buildArgs, platformArguments(platform, options.target)),
          cache,
          cacheSources: this.cacheSources(options),
          context,
          roots,
          copies: new CopySteps(roots, layers),
          runner: new StepRunner({ containers, layers, content: store.content }),
          layers,
          platform,
          escape: dockerfile.directives.escapeToken,
          usedKeys: [],
          hold: (held) => void releases.push(store.holds.hold([held.id, ...held.layers])),
          signal,
        },
        dockerfile,
        sink,
      );
      // While it is held: a prune must not take it before it has its name.
      await this.tag(image, options, options.quiet ? undefined : sink);
      return image;
    } finally {
      roots.close();
      await context?.remove();
      for (const release of releases) await release();
    }
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

  private async tag(image: Image, options: BuildOptions, sink: ProgressSink | undefined): Promise<void> {
    sink?.({ stream: `Successfully built ${shortId(image.id)}\n` });
    for (const reference of options.tags) {
      await this.options.store.tag(image, reference);
      sink?.({ stream: `Successfully tagged ${familiarString(reference)}\n` });
    }
  }
}
