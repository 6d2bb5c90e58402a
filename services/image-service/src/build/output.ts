/** What a build tells as it goes on: the classic builder's text, or BuildKit's vertexes. */
import type { ProgressMessage } from '@flotilla/engine-api';
import type { StandardStream } from '@flotilla/streams';
import type { Image } from '../image.ts';
import type { Dockerfile, From, Instruction, Stage } from './dockerfile/instructions.ts';

export interface BuildOutput {
  /** Comes first: what will be done. */
  start(dockerfile: Dockerfile, needed: readonly Stage[]): void;
  /** The voice of one stage of those that `start` named. */
  stage(stage: Stage): StageOutput;
  /** All stages are done. */
  unconsumed(args: readonly string[]): void;
}

export interface StageOutput {
  /** A step begins; it ends with `done` or `failed`. */
  begin(step: From | Instruction): void;
  /** So many triggers of the base image come next, each a step of its own. */
  triggers(count: number): void;
  beginTrigger(step: Instruction): void;
  /** The cache knows what the step gives. */
  cached(): void;
  done(image: Image | undefined): void;
  failed(error: unknown): void;
  /** The step runs in a container. */
  running(containerId: string): void;
  removed(containerId: string): void;
  command(): CommandOutput;
  /** Something comes over the network. */
  progress(line: ProgressMessage): void;
  warn(text: string): void;
  end(image: Image | undefined): void;
}

/** What a command writes, as it comes. */
export interface CommandOutput {
  write(stream: StandardStream, chunk: Buffer): void;
  end(): void;
}

const nothing = (): void => undefined;

/** Says nothing. */
export const silentStage: StageOutput = {
  begin: nothing,
  triggers: nothing,
  beginTrigger: nothing,
  cached: nothing,
  done: nothing,
  failed: nothing,
  running: nothing,
  removed: nothing,
  command: () => ({ write: nothing, end: nothing }),
  progress: nothing,
  warn: nothing,
  end: nothing,
};
