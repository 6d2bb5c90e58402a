/** What a target of a Dockerfile takes from its client: arguments, secrets, ssh agents; and which targets there are. */
import type { Arg, Dockerfile, Location, RunMount, Stage } from './dockerfile/instructions.ts';
import { neededStages, type StageNames } from './dockerfile/stageGraph.ts';
import { expand } from './dockerfile/substitute.ts';

interface Parameter {
  readonly name: string;
  readonly location: Location;
}

interface OutlineArg extends Parameter {
  readonly value?: string;
  readonly description?: string;
}

export interface OutlineLoan extends Parameter {
  readonly isRequired: boolean;
}

export interface Outline {
  readonly name?: string;
  readonly description?: string;
  readonly args: readonly OutlineArg[];
  readonly secrets: readonly OutlineLoan[];
  readonly ssh: readonly OutlineLoan[];
}

export interface Target {
  readonly name?: string;
  readonly description?: string;
  readonly base: string;
  readonly platform?: string;
  readonly isDefault: boolean;
  readonly location: Location;
}

export function targetsOf({ stages }: Dockerfile): Target[] {
  return stages.map(({ name, from }, index) => ({
    ...(name === undefined ? {} : { name }),
    ...described(from.comments, name),
    base: from.image,
    ...(from.platform === undefined ? {} : { platform: from.platform }),
    isDefault: index === stages.length - 1,
    location: from.location,
  }));
}

/** @throws InvalidParameter for variables that cannot be expanded. */
export function outlineOf(dockerfile: Dockerfile, target: Stage, names: StageNames): Outline {
  const stages = neededStages(dockerfile, dockerfile.stages.slice(0, target.index + 1), names);
  const mounts = stages.flatMap(({ instructions }) =>
    instructions.flatMap((instruction) =>
      instruction.kind === 'run' ? instruction.mounts.map((mount) => ({ mount, location: instruction.location })) : [],
    ),
  );
  return {
    ...(target.name === undefined ? {} : { name: target.name }),
    ...described(target.from.comments, target.name),
    args: new ArgCollector(dockerfile, names).collect(stages),
    secrets: loans(mounts, 'secret'),
    ssh: loans(mounts, 'ssh'),
  };
}

/** Those that a stage declares or a base's name uses, and those that their own values use. */
class ArgCollector {
  private readonly found = new Map<string, OutlineArg>();
  private readonly global = new Map<string, OutlineArg>();
  private readonly values: Map<string, string>;
  private readonly names: StageNames;
  private readonly escapeToken: string;

  constructor({ metaArgs, directives }: Dockerfile, names: StageNames) {
    this.names = names;
    this.escapeToken = directives.escapeToken;
    this.values = new Map(names.globals);
    for (const arg of metaArgs) for (const each of this.read(arg)) this.global.set(each.name, each);
  }

  collect(stages: readonly Stage[]): OutlineArg[] {
    for (const { from, instructions } of stages) {
      for (const text of [from.image, from.platform ?? '']) this.use(text);
      for (const instruction of instructions) if (instruction.kind === 'arg') this.note(instruction);
    }
    return [...this.found.values()].sort((a, b) => a.location.startLine - b.location.startLine);
  }

  /** What a text uses of the arguments before the first FROM. */
  private use(text: string): void {
    for (const [, name = ''] of text.matchAll(/\$\{?(\w+)/g)) {
      const arg = this.global.get(name);
      if (arg !== undefined) this.found.set(name, arg);
    }
  }

  private note(arg: Arg): void {
    for (const [index, each] of this.read(arg).entries()) {
      const outer = this.global.get(each.name);
      this.found.set(each.name, arg.args[index]?.value === undefined && outer !== undefined ? outer : each);
      this.use(arg.args[index]?.value ?? '');
    }
  }

  private read({ args, comments, location }: Arg): OutlineArg[] {
    return args.map(({ name, value: written }) => {
      const value = this.names.buildArgs.get(name) ?? (written === undefined ? undefined : expand(written, this.values, this.escapeToken));
      if (value !== undefined) this.values.set(name, value);
      return { name, location, ...(value === undefined ? {} : { value }), ...described(comments, name) };
    });
  }
}

function loans(mounts: readonly { readonly mount: RunMount; readonly location: Location }[], type: 'secret' | 'ssh'): OutlineLoan[] {
  const found = new Map<string, OutlineLoan>();
  for (const { mount, location } of mounts) {
    const value = (...keys: string[]): string | undefined => mount.options.find(({ key }) => keys.includes(key))?.value;
    if (value('type') !== type) continue;
    const path = value('source', 'src') ?? value('target', 'dst', 'destination') ?? '';
    const name = value('id') ?? (type === 'ssh' ? 'default' : path.slice(path.lastIndexOf('/') + 1));
    const required = mount.options.find(({ key }) => key === 'required');
    const isRequired = required !== undefined && (required.value ?? 'true') === 'true';
    if (!found.has(name)) found.set(name, { name, isRequired, location });
  }
  return [...found.values()];
}

/** `# name what it is for` above something with a name. */
function described(comments: readonly string[] | undefined, name: string | undefined): { description?: string } {
  const line = name === undefined ? undefined : comments?.find((comment) => comment.startsWith(`${name} `));
  return line === undefined || name === undefined ? {} : { description: line.slice(name.length + 1) };
}
