/** Which files of the context a build reads, as far as the Dockerfile alone tells. */
import { parseGitSource } from './context/git.ts';
import { isUrl } from './copy/download.ts';
import { cleanPath } from './copy/paths.ts';
import type { Add, Copy, Instruction, Stage } from './dockerfile/instructions.ts';
import { expand } from './dockerfile/substitute.ts';

/** Paths and patterns, relative to the context; undefined: all of it. */
export type ContextPaths = readonly string[] | undefined;

/** What sources of COPY and ADD, with their variables expanded, are below the context. */
export function contextPaths(sources: readonly string[]): ContextPaths {
  const local = sources.filter((source) => !isUrl(source) && parseGitSource(source) === undefined);
  const paths = local.map(cleanPath);
  return paths.includes('') ? undefined : paths;
}

/** All that stages read of it. @returns 'nothing' when they read nothing. */
export function plannedPaths(stages: readonly Stage[], escapeToken: string): ContextPaths | 'nothing' {
  const found = new Set<string>();
  for (const instruction of stages.flatMap((stage) => stage.instructions)) {
    const sources = sourcesOf(instruction);
    // What a variable holds is known when the step is there.
    if (sources.some((source) => source.includes('$'))) return undefined;
    const paths = contextPaths(sources.map((source) => expand(source, new Map(), escapeToken)));
    if (paths === undefined) return undefined;
    for (const path of paths) found.add(path);
  }
  return found.size === 0 ? 'nothing' : [...found];
}

function sourcesOf(instruction: Instruction): string[] {
  switch (instruction.kind) {
    case 'copy':
    case 'add':
      return readsContext(instruction) ? [...instruction.sources] : [];
    case 'run':
      return instruction.mounts
        .filter(({ from, options }) => from === undefined && ['bind', undefined].includes(options.find(({ key }) => key === 'type')?.value))
        .map(({ options }) => options.find(({ key }) => key === 'source' || key === 'src')?.value ?? '.');
    default:
      return [];
  }
}

function readsContext(instruction: Copy | Add): boolean {
  return instruction.kind === 'add' || instruction.from === undefined;
}
