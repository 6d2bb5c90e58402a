/** A build's steps as vertexes, named as dockerd names them: `[stage 2/5] RUN …`. Steps that change the configuration alone are not shown. */
import type { ProgressMessage } from '@flotilla/engine-api';
import { parseReference, withDefaultTag } from '@flotilla/oci';
import type { Dockerfile, From, Instruction, Stage } from '../build/dockerfile/instructions.ts';
import { type BuildOutput, type CommandOutput, type StageOutput, silentStage } from '../build/output.ts';
import { stepError } from './failure.ts';
import type { Progress, VertexHandle } from './progress.ts';
import type { SourceText } from './sourceText.ts';

const shown: ReadonlySet<string> = new Set(['from', 'run', 'copy', 'add', 'workdir']);

/** The last words of a layer that is pulled. */
const ended: ReadonlySet<string> = new Set(['Pull complete', 'Already exists']);

export class VertexOutput implements BuildOutput {
  private readonly progress: Progress;
  private readonly definition: VertexHandle;
  private readonly source: SourceText;
  private readonly stages = new Map<number, StageOutput>();

  /** @param definition - where warnings are shown. */
  constructor(progress: Progress, definition: VertexHandle, source: SourceText) {
    this.progress = progress;
    this.definition = definition;
    this.source = source;
  }

  start({ stages }: Dockerfile, needed: readonly Stage[]): void {
    const names = new Set(stages.flatMap(({ name }) => name ?? []));
    for (const stage of needed) {
      const label = stages.length === 1 ? '' : `${stage.name ?? `stage-${stage.index}`} `;
      this.stages.set(
        stage.index,
        new VertexStage(this.progress, stage, {
          label,
          hasImage: stage.from.image !== 'scratch' && !names.has(stage.from.image.toLowerCase()),
        }),
      );
    }
  }

  stage({ index }: Stage): StageOutput {
    return this.stages.get(index) ?? silentStage;
  }

  unconsumed(args: readonly string[]): void {
    // Arguments that steer the build itself are nobody's to declare.
    const strangers = args.filter((name) => !/^(BUILDKIT_.*|SOURCE_DATE_EPOCH)$/.test(name));
    if (strangers.length > 0) this.definition.warn(`One or more build-args [${strangers.join(' ')}] were not consumed`, this.source);
  }
}

class VertexStage implements StageOutput {
  private readonly display: Progress;
  private readonly label: string;
  /** A stage on another one, or on nothing, begins with its first step. */
  private readonly hasImage: boolean;
  private readonly total: number;
  private count = 0;
  private current: VertexHandle | undefined;

  constructor(progress: Progress, stage: Stage, options: { label: string; hasImage: boolean }) {
    this.display = progress;
    this.label = options.label;
    this.hasImage = options.hasImage;
    this.total = stage.instructions.filter(({ kind }) => shown.has(kind)).length + (this.hasImage ? 1 : 0);
  }

  begin(step: From | Instruction): void {
    if (!shown.has(step.kind)) return;
    if (step.kind === 'from' && !this.hasImage) return;
    this.count++;
    const words = step.kind === 'from' ? `FROM ${fullName(step.image)}` : step.original;
    this.current = this.display.vertex(`[${this.label}${this.count}/${this.total}] ${words}`).start();
  }

  triggers(): void {
    this.current?.complete();
  }

  beginTrigger({ kind, original }: Instruction): void {
    if (shown.has(kind)) this.current = this.display.vertex(`[${this.label}${this.count}/${this.total}] ONBUILD ${original}`).start();
  }

  cached(): void {
    this.current?.cached();
  }

  done(): void {
    this.current?.complete();
    this.current = undefined;
  }

  failed(error: unknown): void {
    this.current?.complete(stepError(error));
    this.current = undefined;
  }

  running(): void {
    // The step itself is shown.
  }

  removed(): void {
    // Nobody sees the container.
  }

  command(): CommandOutput {
    const { current } = this;
    return {
      write: (stream, chunk) => current?.log(stream === 2 ? 2 : 1, chunk),
      end: () => undefined,
    };
  }

  progress({ id, status, progressDetail }: ProgressMessage): void {
    if (id === undefined || status === undefined) return;
    const { current = 0, total = 0 } = progressDetail ?? {};
    this.current?.bar({ id, name: status, current, total, isComplete: ended.has(status) });
  }

  warn(text: string): void {
    this.current?.log(2, Buffer.from(`${text}\n`));
  }

  end(): void {
    this.current?.complete();
  }
}

/** `busybox` as it is known to everybody: `docker.io/library/busybox:latest`. */
function fullName(image: string): string {
  if (image === 'scratch') return image;
  try {
    const { domain, path, tag, digest } = withDefaultTag(parseReference(image));
    return `${domain}/${path}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
  } catch {
    return image;
  }
}
