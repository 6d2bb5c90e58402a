/** Which stages stand on which. */
import type { Dockerfile, Instruction, Stage } from './instructions.ts';
import { expand } from './substitute.ts';

export interface StageNames {
  /** Arguments that the client gave. */
  readonly buildArgs: ReadonlyMap<string, string | undefined>;
  /** What every FROM sees. */
  readonly globals: ReadonlyMap<string, string>;
  /** Whether a name is a context of the client's. */
  readonly isContext: (name: string) => boolean;
}

/** Stages by name and number. */
export class NamedStages {
  private readonly stages: readonly Stage[];
  /** Of one name, in the order of the Dockerfile. */
  private readonly named: ReadonlyMap<string, readonly Stage[]>;

  constructor(stages: readonly Stage[]) {
    this.stages = stages;
    this.named = Map.groupBy(stages, ({ name = '' }) => name.toLowerCase());
  }

  /** The stage of a name or number among those before one; of several that share a name the last. */
  find(name: string, before = this.stages.length): Stage | undefined {
    if (name === '') return undefined;
    const same = this.named.get(name.toLowerCase()) ?? [];
    let [low, high] = [0, same.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((same[middle]?.index ?? before) < before) low = middle + 1;
      else high = middle;
    }
    const number = /^\d+$/.test(name) ? Number(name) : before;
    return same[low - 1] ?? (number < before ? this.stages[number] : undefined);
  }
}

/** The stages that the last of these stands on, copies from or mounts, with itself, in the order of the Dockerfile. */
export function neededStages({ metaArgs, directives }: Dockerfile, stages: readonly Stage[], names: StageNames): Stage[] {
  const values = fromValues(metaArgs, directives.escapeToken, names);
  const named = new NamedStages(stages);
  const wanted = new Set<number>();
  const pending = stages.slice(-1);
  for (let stage = pending.pop(); stage !== undefined; stage = pending.pop()) {
    if (wanted.has(stage.index)) continue;
    wanted.add(stage.index);
    const sources = [expand(stage.from.image, values, directives.escapeToken), ...stage.instructions.flatMap(sourceNames)];
    for (const name of sources) {
      const source = names.isContext(name) ? undefined : named.find(name, stage.index);
      if (source !== undefined) pending.push(source);
    }
  }
  return stages.filter((stage) => wanted.has(stage.index));
}

/** Only the values that ARG gives before the first FROM can name a base. */
export function fromValues(
  metaArgs: Dockerfile['metaArgs'],
  escapeToken: string,
  { buildArgs, globals }: Pick<StageNames, 'buildArgs' | 'globals'>,
): Map<string, string> {
  const values = new Map(globals);
  for (const { name, value } of metaArgs.flatMap(({ args }) => args)) {
    const given = buildArgs.get(name) ?? (value === undefined ? undefined : expand(value, values, escapeToken));
    if (given !== undefined) values.set(name, given);
  }
  return values;
}

function sourceNames(instruction: Instruction): string[] {
  switch (instruction.kind) {
    case 'copy':
      return instruction.from === undefined ? [] : [instruction.from];
    case 'run':
      return instruction.mounts.flatMap((mount) => (mount.from === undefined ? [] : [mount.from]));
    default:
      return [];
  }
}
