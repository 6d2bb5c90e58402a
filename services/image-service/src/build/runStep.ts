/** RUN: a command in a container on the image so far; what it wrote becomes the next layer. */
import { statSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { ContainerCreateRequest, HostConfig, Mount } from '@flotilla/engine-api';
import { System } from '@flotilla/errors';
import { shortDigest } from '@flotilla/oci';
import type { StandardStream } from '@flotilla/streams';
import type { ContentStore } from '../contentStore.ts';
import type { HeldLayer } from '../newImage.ts';
import type { StageOutput } from './output.ts';
import type { StepLayers } from './stepLayers.ts';

/** What RUN needs of container-service. */
export interface StepContainers {
  create(config: ContainerCreateRequest, signal: AbortSignal): Promise<{ id: string; warnings: readonly string[] }>;
  /** Starts it, passes on its output, and resolves to its exit code. */
  run(id: string, write: (stream: StandardStream, chunk: Buffer) => Promise<void> | void, signal: AbortSignal): Promise<number>;
  /** Removes it with its anonymous volumes, running or not; one that is gone is no error. */
  remove(id: string): Promise<void>;
  /** The containers of builds, with the build each belongs to. */
  labelled(): Promise<{ id: string; label: string }[]>;
}

/** A command that failed: the code goes to the client with the words. */
export class CommandFailed extends System {
  readonly command: readonly string[];
  readonly code: number;

  constructor(command: readonly string[], code: number) {
    super(`The command '${command.join(' ')}' returned a non-zero code: ${code}`);
    this.command = command;
    this.code = code;
  }
}

export interface RunRequest {
  /** As it is shown. */
  readonly command: readonly string[];
  readonly config: ContainerCreateRequest;
  readonly hostConfig: HostConfig;
  readonly mounts: readonly Mount[];
  readonly output: StageOutput;
  /** Containers that stay after the step are noted here. */
  readonly remove: boolean;
  readonly forceRemove: boolean;
  readonly signal: AbortSignal;
}

export interface RunnerOptions {
  readonly containers: StepContainers;
  readonly layers: StepLayers;
  readonly content: ContentStore;
}

const unmountWithinMs = 30_000;
const pollMs = 5;

export class StepRunner {
  private readonly containers: StepContainers;
  private readonly layers: StepLayers;
  private readonly content: ContentStore;

  constructor(options: RunnerOptions) {
    this.containers = options.containers;
    this.layers = options.layers;
    this.content = options.content;
  }

  /** @param beforeLayer - works on the container's writable directory when it has ended. @throws CommandFailed */
  async run(request: RunRequest, beforeLayer: (upper: string) => void): Promise<HeldLayer> {
    const { command: shown, config, hostConfig, mounts, output, signal } = request;
    const { id, warnings } = await this.containers.create({ ...config, HostConfig: { ...hostConfig, Mounts: [...mounts] } }, signal);
    let layer: HeldLayer | undefined;
    try {
      for (const warning of warnings) output.warn(` ---> [Warning] ${warning}`);
      output.running(id);
      const command = output.command();
      const code = await this.containers.run(id, (stream, chunk) => command.write(stream, chunk), signal);
      command.end();
      if (code !== 0) throw new CommandFailed(shown, code);
      await this.unmounted(id, signal);
      beforeLayer(this.content.snapshotPaths(id).upperDir);
      layer = await (request.remove ? this.layers.take(id, signal) : this.layers.copy(id, signal));
      return layer;
    } finally {
      // A cut build leaves nothing, whatever was asked for.
      if (request.forceRemove || signal.aborted || (request.remove && layer !== undefined)) {
        await this.containers.remove(id).catch(async (error: unknown) => {
          await layer?.release();
          throw error;
        });
        if (!signal.aborted) output.removed(id);
      }
    }
  }

  /** A container that has ended is unmounted a moment later. */
  private async unmounted(id: string, signal: AbortSignal): Promise<void> {
    const { root, mergedDir } = this.content.snapshotPaths(id);
    const end = Date.now() + unmountWithinMs;
    const device = statSync(root).dev;
    while (statSync(mergedDir, { throwIfNoEntry: false })?.dev !== device) {
      if (Date.now() > end) throw new System(`the file system of container ${id} stays mounted`);
      await pause(pollMs, undefined, { signal });
    }
  }
}

/** What the CLI shows of an image. */
export function shortId(id: string): string {
  return shortDigest(id as `sha256:${string}`);
}
