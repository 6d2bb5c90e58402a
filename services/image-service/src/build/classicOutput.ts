/**
 * The classic builder's lines. Stages that run side by side do not mix them: the first one that has not ended speaks at once, the others are heard when
 * their turn comes.
 */
import { StringDecoder } from 'node:string_decoder';
import type { ProgressMessage } from '@flotilla/engine-api';
import { isCancelled } from '@flotilla/errors';
import type { StandardStream } from '@flotilla/streams';
import type { Image } from '../image.ts';
import type { ProgressSink } from '../progress.ts';
import type { Dockerfile, From, Instruction, Stage } from './dockerfile/instructions.ts';
import { locationOf } from './errorSource.ts';
import { type BuildOutput, type CommandOutput, type StageOutput, silentStage } from './output.ts';
import { shortId } from './runStep.ts';

interface Part {
  readonly held: ProgressMessage[];
  ended: boolean;
}

interface Speaker {
  readonly say: (line: ProgressMessage) => void;
  readonly end: () => void;
}

export class ClassicOutput implements BuildOutput {
  private readonly sink: ProgressSink;
  private readonly aux: boolean;
  private readonly parts: Part[] = [];
  private readonly stages = new Map<number, StageOutput>();
  private speaking = 0;

  /** @param aux - whether ids of images are told in lines of their own. */
  constructor(sink: ProgressSink, aux: boolean) {
    this.sink = sink;
    this.aux = aux;
  }

  start({ warnings, metaArgs }: Dockerfile, needed: readonly Stage[]): void {
    const total = metaArgs.length + needed.reduce((sum, stage) => sum + 1 + stage.instructions.length, 0);
    const head = this.speaker();
    for (const { text } of warnings) head.say({ stream: text });
    for (const [index, { original }] of metaArgs.entries()) head.say({ stream: `Step ${index + 1}/${total} : ${original}\n` });
    let step = metaArgs.length + 1;
    for (const stage of needed) {
      this.stages.set(stage.index, new ClassicStage(this.speaker(), { firstStep: step, steps: total, aux: this.aux }));
      step += 1 + stage.instructions.length;
    }
    head.end();
  }

  /** A stage that only a trigger of a base image asked for has no place in the order of lines. */
  stage({ index }: Stage): StageOutput {
    return this.stages.get(index) ?? silentStage;
  }

  unconsumed(args: readonly string[]): void {
    this.sink({ stream: `[Warning] One or more build-args [${args.join(' ')}] were not consumed\n` });
  }

  /** Is heard after all that were made before. */
  private speaker(): Speaker {
    const part: Part = { held: [], ended: false };
    const index = this.parts.push(part) - 1;
    return {
      say: (line) => {
        if (index === this.speaking) this.sink(line);
        else part.held.push(line);
      },
      end: () => {
        part.ended = true;
        this.advance();
      },
    };
  }

  private advance(): void {
    while (this.parts[this.speaking]?.ended === true) {
      this.speaking++;
      const next = this.parts[this.speaking];
      for (const message of next?.held.splice(0) ?? []) this.sink(message);
    }
  }
}

class ClassicStage implements StageOutput {
  private readonly speaker: Speaker;
  private readonly steps: number;
  private readonly aux: boolean;
  private step: number;
  private isTrigger = false;

  constructor(speaker: Speaker, options: { firstStep: number; steps: number; aux: boolean }) {
    this.speaker = speaker;
    this.step = options.firstStep;
    this.steps = options.steps;
    this.aux = options.aux;
  }

  private text(stream: string): void {
    this.speaker.say({ stream });
  }

  begin({ original }: From | Instruction): void {
    this.text(`Step ${this.step++}/${this.steps} : ${original}\n`);
  }

  triggers(count: number): void {
    this.text(`# Executing ${count} build trigger${count > 1 ? 's' : ''}\n`);
  }

  /** Triggers are parts of the step that has them: not counted, and nothing is told of their images. */
  beginTrigger(): void {
    this.isTrigger = true;
  }

  cached(): void {
    this.text(' ---> Using cache\n');
  }

  done(image: Image | undefined): void {
    if (!this.isTrigger) this.text(` ---> ${image === undefined ? '' : shortId(image.id)}\n`);
    this.isTrigger = false;
  }

  /** The build's last line says what; this is where. */
  failed(error: unknown): void {
    const location = locationOf(error);
    if (location === undefined || isCancelled(error)) return;
    this.text(` ---> Failed at line ${location.startLine} of the Dockerfile\n`);
  }

  running(containerId: string): void {
    this.text(` ---> Running in ${containerId.slice(0, 12)}\n`);
  }

  removed(containerId: string): void {
    this.text(` ---> Removed intermediate container ${containerId.slice(0, 12)}\n`);
  }

  command(): CommandOutput {
    return new ColouredText((text) => this.text(text));
  }

  progress(line: ProgressMessage): void {
    this.speaker.say(line);
  }

  warn(text: string): void {
    this.text(`${text}\n`);
  }

  end(image: Image | undefined): void {
    if (this.aux && image !== undefined) this.speaker.say({ aux: { ID: image.id } });
    this.speaker.end();
  }
}

/** A command's output as text: characters that are cut between chunks come whole, errors are red as dockerd sends them. */
class ColouredText implements CommandOutput {
  private readonly decoders = { 0: new StringDecoder('utf8'), 1: new StringDecoder('utf8'), 2: new StringDecoder('utf8') };
  private readonly text: (text: string) => void;

  constructor(text: (text: string) => void) {
    this.text = text;
  }

  write(stream: StandardStream, chunk: Buffer): void {
    this.say(stream, this.decoders[stream].write(chunk));
  }

  end(): void {
    for (const stream of [1, 2] as const) this.say(stream, this.decoders[stream].end());
  }

  private say(stream: StandardStream, text: string): void {
    if (text !== '') this.text(stream === 2 ? `\u001b[91m${text}\u001b[0m` : text);
  }
}
