/** Dockerfile instructions as `--change` of import and commit gives them, applied to an image's defaults. */
import { InvalidParameter } from '@flotilla/errors';
import { type ContainerDefaults, InvalidContent, parseContainerDefaults } from '@flotilla/oci';
import { applyToConfig, type ConfigState } from './build/configSteps.ts';
import { cleanPath } from './build/copy/paths.ts';
import type { Instruction } from './build/dockerfile/instructions.ts';
import { parseInstructionLine } from './build/dockerfile/parse.ts';
import { expand, expandWords } from './build/dockerfile/substitute.ts';

type Mutable = { -readonly [K in keyof ContainerDefaults]: ContainerDefaults[K] };

const escapeToken = '\\';
const allowed = 'cmd entrypoint env expose healthcheck label onbuild stopsignal user volume workdir'.split(' ');

/** @throws InvalidParameter in dockerd's words for an instruction that may not be used here, or is malformed. */
export function applyChanges(defaults: ContainerDefaults, changes: readonly string[]): ContainerDefaults {
  const state: ConfigState = { config: structuredClone(defaults) as Mutable, shell: shellOf(defaults), author: '', hasOwnCommand: false };
  for (const change of changes.flatMap((text) => text.replace(/\\\n/g, '').split('\n'))) {
    const line = change.trim();
    if (line !== '' && !line.startsWith('#')) applyChange(state, line);
  }
  return state.config;
}

function applyChange(state: ConfigState, line: string): void {
  const name = (line.split(/\s/, 1)[0] ?? '').toLowerCase();
  if (!allowed.includes(name)) throw new InvalidParameter(`${name} is not a valid change command`);
  const variables = variablesOf(state.config);
  const word = (text: string): string => expand(text, variables, escapeToken);
  const instruction: Instruction = parseInstructionLine(line);
  if (instruction.kind === 'workdir') {
    const path = word(instruction.path);
    state.config.WorkingDir = `/${cleanPath(path.startsWith('/') ? path : `${state.config.WorkingDir || '/'}/${path}`)}`;
    return;
  }
  applyToConfig(state, instruction, { word, words: (text) => expandWords(text, variables, escapeToken), say: () => undefined });
}

function shellOf({ Shell }: ContainerDefaults): readonly string[] {
  return Shell !== undefined && Shell.length > 0 ? Shell : ['/bin/sh', '-c'];
}

function variablesOf({ Env }: ContainerDefaults): Map<string, string> {
  return new Map(
    (Env ?? []).map((variable) => {
      const equals = variable.indexOf('=');
      return equals < 0 ? [variable, ''] : [variable.slice(0, equals), variable.slice(equals + 1)];
    }),
  );
}

/** A configuration over another: what it leaves out or empty is the other's; variables, labels, ports and volumes come together. */
export function mergeDefaults(over: ContainerDefaults, base: ContainerDefaults): ContainerDefaults {
  const merged: Mutable = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const isEmpty = value === '' || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
    if (!isEmpty) Object.assign(merged, { [name]: value });
  }
  if (over.Env !== undefined && base.Env !== undefined) {
    const names = new Set(over.Env.map((each) => each.split('=', 1)[0]));
    merged.Env = [...over.Env, ...base.Env.filter((each) => !names.has(each.split('=', 1)[0]))];
  }
  if (over.Labels !== undefined) merged.Labels = { ...base.Labels, ...over.Labels };
  if (over.ExposedPorts !== undefined) merged.ExposedPorts = { ...base.ExposedPorts, ...over.ExposedPorts };
  if (over.Volumes !== undefined) merged.Volumes = { ...base.Volumes, ...over.Volumes };
  // A new entry point without a command must not be given the old one's.
  if ((over.Entrypoint?.length ?? 0) > 0 && (over.Cmd?.length ?? 0) === 0) delete merged.Cmd;
  return merged;
}

/** The image part of a container's configuration, as JSON. @throws InvalidParameter */
export function defaultsFromJson(json: Uint8Array): ContainerDefaults | undefined {
  if (json.length === 0) return undefined;
  try {
    return parseContainerDefaults('config', JSON.parse(Buffer.from(json).toString('utf8')));
  } catch (error) {
    if (error instanceof InvalidContent || error instanceof SyntaxError) throw new InvalidParameter(error.message, { cause: error });
    throw error;
  }
}
