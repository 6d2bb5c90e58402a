/**
 * What a build tells its client. Stages that run side by side do not mix their lines: the first one that has not ended speaks at once, the others are
 * heard when their turn comes.
 */
import { StringDecoder } from 'node:string_decoder';
import type { ProgressMessage } from '@flotilla/engine-api';
import type { StandardStream } from '@flotilla/streams';
import type { ProgressSink } from '../progress.ts';

/** Lines of one stage. */
export interface StageOutput {
  text(text: string): void;
  line(message: ProgressMessage): void;
  end(): void;
}

interface Part {
  readonly held: ProgressMessage[];
  ended: boolean;
}

export class BuildOutput {
  private readonly sink: ProgressSink;
  private readonly parts: Part[] = [];
  private speaking = 0;

  constructor(sink: ProgressSink) {
    this.sink = sink;
  }

  /** Says something in its turn: after all parts that were opened before. */
  open(): StageOutput {
    const part: Part = { held: [], ended: false };
    const index = this.parts.push(part) - 1;
    const line = (message: ProgressMessage): void => {
      if (index === this.speaking) this.sink(message);
      else part.held.push(message);
    };
    return {
      line,
      text: (text) => line({ stream: text }),
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

/** A command's output as text: characters that are cut between chunks come whole, errors are red as dockerd sends them. */
export class CommandOutput {
  private readonly decoders = { 0: new StringDecoder('utf8'), 1: new StringDecoder('utf8'), 2: new StringDecoder('utf8') };
  private readonly output: StageOutput;

  constructor(output: StageOutput) {
    this.output = output;
  }

  write(stream: StandardStream, chunk: Buffer): void {
    this.say(stream, this.decoders[stream].write(chunk));
  }

  end(): void {
    for (const stream of [1, 2] as const) this.say(stream, this.decoders[stream].end());
  }

  private say(stream: StandardStream, text: string): void {
    if (text !== '') this.output.text(stream === 2 ? `\u001b[91m${text}\u001b[0m` : text);
  }
}
