/** One stage: its instructions, one after the other, each a step from an image to the next. */
import { randomId } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { type Platform, parsePlatform } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { HeldLayer } from '../newImage.ts';
import type { Build } from './build.ts';
import type { ArgScope } from './buildArgs.ts';
import { BuildState } from './buildState.ts';
import { cachedStep } from './cachedStep.ts';
import { applyToConfig } from './configSteps.ts';
import { copyFiles } from './copyInstruction.ts';
import type { Arg, From, Instruction, Stage } from './dockerfile/instructions.ts';
import { parseInstructionLine } from './dockerfile/parse.ts';
import { expand, expandText, expandWords } from './dockerfile/substitute.ts';
import { noteLocation } from './errorSource.ts';
import { imageOfFiles } from './imageOfFiles.ts';
import type { StageOutput } from './output.ts';
import { runCommand } from './runInstruction.ts';
import { makeWorkingDirectory } from './workingDirectory.ts';

/** What a finished stage is to others. */
export interface BuiltStage {
  readonly image: Image;
  readonly args: ArgScope;
  /** How many entries of the image's history are not this build's own. */
  readonly inherited: number;
}

/** Finds the stage of a name or number among those before this one; undefined when it is an image's name. */
export type StageLookUp = (name: string) => Promise<BuiltStage> | undefined;

export interface StageOptions {
  readonly build: Build;
  readonly stage: Stage;
  readonly stages: StageLookUp;
  readonly output: StageOutput;
}

export class StageBuilder {
  readonly build: Build;
  readonly output: StageOutput;
  readonly state: BuildState;
  readonly args: ArgScope;
  readonly stages: StageLookUp;
  private readonly stage: Stage;
  private inherited = 0;

  constructor(options: StageOptions) {
    this.build = options.build;
    this.stage = options.stage;
    this.stages = options.stages;
    this.output = options.output;
    this.state = new BuildState(this.build.store, this.build.platform, this.build.options.cacheOnly);
    this.args = this.build.args.scope();
  }

  async run(): Promise<BuiltStage> {
    await this.step(this.stage.from, () => this.begin());
    for (const instruction of this.stage.instructions) await this.step(instruction, () => this.dispatch(instruction));
    const { image } = this.state;
    if (image === undefined) throw new InvalidParameter('No image was generated. Is your Dockerfile empty?');
    return { image, args: this.args, inherited: this.inherited };
  }

  /** `--no-cache`, or `--no-cache-filter` with this stage's name. */
  get noCache(): boolean {
    const { noCache } = this.build.options;
    return noCache === 'all' || noCache.includes(this.stage.name ?? '');
  }

  private async step(instruction: From | Instruction, work: () => Promise<void>): Promise<void> {
    this.build.signal.throwIfAborted();
    this.output.begin(instruction);
    try {
      await work();
      this.output.done(this.state.image);
    } catch (error) {
      noteLocation(error, instruction.location);
      this.output.failed(error);
      throw error;
    }
  }

  private async begin(): Promise<void> {
    const base = await this.baseImage();
    this.state.begin(base);
    const triggers = base?.config.config.OnBuild ?? [];
    if (triggers.length > 0) await this.trigger(triggers);
  }

  private async baseImage(): Promise<Image | undefined> {
    const globals = this.build.args.globals();
    const { from } = this.stage;
    const name = expand(from.image, globals, this.build.escape);
    if (name === '') throw new InvalidParameter(`base name (${from.image}) should not be blank`);
    const named = this.build.contexts.find(name);
    if (named?.kind === 'built') return this.inherit(named.image);
    if (named?.kind === 'files') return imageOfFiles(this, await named.root());
    const stage = named === undefined ? this.stages(name) : undefined;
    if (stage !== undefined) {
      const { image, args, inherited } = await stage;
      this.args.inherit(args);
      this.inherited = inherited;
      return image;
    }
    if (name === 'scratch' && named === undefined) return undefined;
    const wanted = from.platform === undefined ? '' : expand(from.platform, globals, this.build.escape);
    const { images, platform, signal } = this.build;
    return this.inherit(await images.get(named?.reference ?? name, this.platformOf(wanted), platform, this.output, signal));
  }

  private inherit(image: Image): Image {
    this.inherited = image.config.history.length;
    return image;
  }

  private platformOf(text: string): Platform | undefined {
    if (text === '') return this.build.options.platform;
    return parsePlatform(text);
  }

  /** What the base image wants done in the builds that stand on it. */
  private async trigger(triggers: readonly string[]): Promise<void> {
    this.output.triggers(triggers.length);
    delete this.state.config.OnBuild;
    for (const line of triggers) {
      const instruction = parseInstructionLine(line);
      this.output.beginTrigger(instruction);
      await this.dispatch(instruction);
      this.output.done(this.state.image);
    }
  }

  private async dispatch(instruction: Instruction): Promise<void> {
    switch (instruction.kind) {
      case 'arg':
        return this.declare(instruction);
      case 'run':
        return runCommand(this, instruction);
      case 'copy':
      case 'add':
        return copyFiles(this, instruction);
      case 'workdir':
        return makeWorkingDirectory(this, this.expand(instruction.path));
      default:
        return this.configure(instruction);
    }
  }

  private async declare(instruction: Arg): Promise<void> {
    const words: string[] = [];
    for (const { name, value } of instruction.args) {
      const expanded = value === undefined ? undefined : this.expand(value);
      this.args.declare(name, expanded);
      words.push(expanded === undefined ? name : `${name}=${expanded}`);
    }
    await this.commitConfig(`ARG ${words.join(' ')}`);
  }

  private async configure(instruction: Instruction): Promise<void> {
    const words = applyToConfig(this.state, instruction, {
      word: (text) => this.expand(text),
      words: (text) => this.expandWords(text),
      say: (text) => this.output.warn(text),
    });
    await this.commitConfig(words);
  }

  /** A step that changes the configuration alone. */
  async commitConfig(words: string): Promise<void> {
    await this.takeStep(`${this.state.shell.join(' ')} #(nop)  ${words}`, [], async () => {
      this.tellContainer();
      return undefined;
    });
  }

  /** dockerd makes a container for a step that runs nothing too, and says so. Here there is none to be had, but its lines are the same. */
  tellContainer(): void {
    if (!this.build.options.remove) return;
    const id = randomId();
    this.output.running(id);
    this.output.removed(id);
  }

  /** A step: what the cache knows, or else what `work` gives. */
  async takeStep(createdBy: string, content: readonly unknown[], work: () => Promise<HeldLayer | undefined>): Promise<void> {
    await cachedStep(this, createdBy, content, work);
  }

  expand(word: string): string {
    return expand(word, this.variables(), this.build.escape);
  }

  /** Variables in a here-document. */
  expandText(text: string): string {
    return expandText(text, this.variables(), this.build.escape);
  }

  expandWords(word: string): string[] {
    return expandWords(word, this.variables(), this.build.escape);
  }

  private variables(): Map<string, string> {
    const environment = this.state.environment.map((variable): [string, string] => {
      const equals = variable.indexOf('=');
      return equals < 0 ? [variable, ''] : [variable.slice(0, equals), variable.slice(equals + 1)];
    });
    return new Map([...this.args.values(this.state.environment), ...environment]);
  }
}
