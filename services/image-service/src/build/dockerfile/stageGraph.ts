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

/** The stage of a name or number among some. */
export function findStage(stages: readonly Stage[], name: string): Stage | undefined {
  const named = stages.findLast((stage) => stage.name !== undefined && stage.name.toLowerCase() === name.toLowerCase());
  return named ?? (/^\d+$/.test(name) ? stages[Number(name)] : undefined);
}

/** The stages that the last of these stands on, copies from or mounts, with itself, in the order of the Dockerfile. */
export function neededStages({ metaArgs, directives }: Dockerfile, stages: readonly Stage[], names: StageNames): Stage[] {
  const values = fromValues(metaArgs, directives.escapeToken, names);
  const wanted = new Set<number>();
  const visit = (stage: Stage | undefined): void => {
    if (stage === undefined || wanted.has(stage.index)) return;
    wanted.add(stage.index);
    const sources = [expand(stage.from.image, values, directives.escapeToken), ...stage.instructions.flatMap(sourceNames)];
    for (const name of sources) if (!names.isContext(name)) visit(findStage(stages.slice(0, stage.index), name));
  };
  visit(stages.at(-1));
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
