/** Which stages a build needs, and running them: each once, those that do not wait for each other side by side. */
import { Cancelled, InvalidParameter } from '@flotilla/errors';
import type { Build } from './build.ts';
import { plannedPaths } from './contextPaths.ts';
import type { Dockerfile, Label, Stage } from './dockerfile/instructions.ts';
import { NamedStages, neededStages } from './dockerfile/stageGraph.ts';
import { expand } from './dockerfile/substitute.ts';
import { type BuiltStage, StageBuilder } from './stageBuilder.ts';

const stagesAtOnce = 3;

export async function runPlan(build: Build, dockerfile: Dockerfile): Promise<BuiltStage> {
  const target = targetStage(dockerfile.stages, build.options.target);
  const stages = dockerfile.stages
    .slice(0, target.index + 1)
    .map((stage) => (stage === target ? withLabels(stage, build.options.labels) : stage));
  return new Plan(build, dockerfile, stages).run();
}

/** @throws InvalidParameter for a stage that is not there. */
export function targetStage(stages: readonly Stage[], wanted: string): Stage {
  const last = stages.at(-1);
  if (last === undefined) throw new InvalidParameter('dockerfile contains no stages to build');
  if (wanted === '') return last;
  const found = new NamedStages(stages).find(wanted);
  if (found === undefined) throw new InvalidParameter(`target stage ${JSON.stringify(wanted)} could not be found`);
  return found;
}

/** `--label` is one more instruction at the end. */
function withLabels(stage: Stage, labels: ReadonlyMap<string, string>): Stage {
  if (labels.size === 0) return stage;
  const pairs = [...labels].sort(([a], [b]) => (a < b ? -1 : 1));
  const literal = (text: string): string => `'${text.replaceAll("'", `'"'"'`)}'`;
  const label: Label = {
    kind: 'label',
    location: stage.from.location,
    original: `LABEL ${pairs.map(([key, value]) => `${key}=${value}`).join(' ')}`,
    pairs: pairs.map(([key, value]) => ({ key: literal(key), value: literal(value) })),
  };
  return { ...stage, instructions: [...stage.instructions, label] };
}

class Plan {
  private readonly build: Build;
  /** A stage that fails ends the others. */
  private readonly failed = new AbortController();
  private readonly dockerfile: Dockerfile;
  private readonly stages: readonly Stage[];
  private readonly named: NamedStages;
  private readonly built = new Map<number, Promise<BuiltStage>>();
  private readonly waiting: (() => void)[] = [];
  private free = stagesAtOnce;

  constructor(build: Build, dockerfile: Dockerfile, stages: readonly Stage[]) {
    this.build = { ...build, signal: AbortSignal.any([build.signal, this.failed.signal]) };
    this.dockerfile = dockerfile;
    this.stages = stages;
    this.named = new NamedStages(stages);
  }

  async run(): Promise<BuiltStage> {
    const { output, context, escape: escapeToken } = this.build;
    const needed = this.needed();
    output.start(this.dockerfile, needed);
    this.declareGlobals();
    const paths = plannedPaths(needed, escapeToken);
    // Under way while base images are looked for. The step that needs it hears of a failure.
    if (paths !== 'nothing') context.files(paths).catch(() => undefined);
    const failures: unknown[] = [];
    const outcomes = await Promise.allSettled(
      needed.map(async (stage) => {
        try {
          return await this.stage(stage);
        } catch (error) {
          failures.push(error);
          this.failed.abort(new Cancelled('another stage has failed'));
          throw error;
        }
      }),
    );
    if (failures.length > 0) throw failures[0];
    const unconsumed = this.build.args.unconsumed();
    if (unconsumed.length > 0) output.unconsumed(unconsumed);
    const last = outcomes.at(-1);
    if (last?.status !== 'fulfilled') throw new InvalidParameter('dockerfile contains no stages to build');
    return last.value;
  }

  private declareGlobals(): void {
    const { args, escape: escapeToken } = this.build;
    for (const instruction of this.dockerfile.metaArgs) {
      for (const { name, value } of instruction.args) {
        args.declareGlobal(name, value === undefined ? undefined : expand(value, args.globals(), escapeToken));
      }
    }
  }

  private needed(): Stage[] {
    const { args, contexts, options } = this.build;
    return neededStages(this.dockerfile, this.stages, {
      buildArgs: options.buildArgs,
      globals: args.globals(),
      isContext: (name) => contexts.find(name) !== undefined,
    });
  }

  private find(name: string, before: number): Stage | undefined {
    return this.build.contexts.find(name) === undefined ? this.named.find(name, before) : undefined;
  }

  private stage(stage: Stage): Promise<BuiltStage> {
    const known = this.built.get(stage.index);
    if (known !== undefined) return known;
    const started = this.perform(stage);
    started.catch(() => undefined);
    this.built.set(stage.index, started);
    return started;
  }

  private async perform(stage: Stage): Promise<BuiltStage> {
    const output = this.build.output.stage(stage);
    const builder = new StageBuilder({
      build: this.build,
      stage,
      stages: (name) => {
        const found = this.find(name, stage.index);
        return found === undefined ? undefined : this.waitFor(found);
      },
      output,
    });
    await this.enter();
    let built: BuiltStage | undefined;
    try {
      built = await builder.run();
      this.build.hold(built.image);
      return built;
    } finally {
      this.leave();
      output.end(built?.image);
      await builder.state.release();
    }
  }

  /** A stage that waits for another gives its place to it. */
  private async waitFor(stage: Stage): Promise<BuiltStage> {
    this.leave();
    try {
      return await this.stage(stage);
    } finally {
      await this.enter();
    }
  }

  private async enter(): Promise<void> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private leave(): void {
    const next = this.waiting.shift();
    if (next === undefined) this.free++;
    else next();
  }
}
