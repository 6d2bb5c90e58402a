/** Docker's form of a seccomp profile, in which rules depend on capabilities, architecture and kernel, and how it is read. */
import { readFileSync } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors';

export interface SeccompArg {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}
export interface SeccompFilter {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
  readonly minKernel?: string;
}
export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArg[];
  readonly includes?: SeccompFilter;
  readonly excludes?: SeccompFilter;
}
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly flags?: readonly string[];
  /** taken as they are; excludes `archMap` */
  readonly architectures?: readonly string[];
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] | null }[];
  readonly syscalls: readonly SeccompRule[];
}

/**
 * What containers without a profile of their own get: a file's content is read once, for it may change while the engine runs.
 *
 * @param profile - undefined: Docker's own; `unconfined`; else a file's path.
 */
export function readEngineProfile(profile: string | undefined): string {
  if (profile === undefined || profile === 'unconfined') return profile ?? '';
  const text = readFileSync(profile, 'utf8');
  parseProfile(text);
  return text;
}

const actionPattern = /^SCMP_ACT_[A-Z_]+$/;

/** Reads a profile given in `--security-opt seccomp=…`. @throws InvalidParameter */
export function parseProfile(text: string): SeccompProfile {
  const refuse = (reason: string, cause?: unknown): never => {
    throw new InvalidParameter(`Decoding seccomp profile failed: ${reason}`, { cause });
  };
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    return refuse(error instanceof Error ? error.message : 'invalid JSON', error);
  }
  const profile = object(document);
  if (profile === undefined) return refuse('it is not an object');
  if (typeof profile.defaultAction !== 'string' || !actionPattern.test(profile.defaultAction))
    return refuse('defaultAction must be an action');
  const archMap = list(profile.archMap);
  const architectures = list(profile.architectures)?.map(String);
  if (archMap?.length && architectures?.length) return refuse("use either 'architectures' or 'archMap'");
  return {
    defaultAction: profile.defaultAction,
    ...(typeof profile.defaultErrnoRet === 'number' ? { defaultErrnoRet: profile.defaultErrnoRet } : {}),
    ...(profile.flags === undefined ? {} : { flags: list(profile.flags)?.map(String) ?? [] }),
    ...(architectures?.length ? { architectures } : {}),
    ...(archMap?.length
      ? {
          archMap: archMap.map((entry) => ({
            architecture: String(object(entry)?.architecture),
            subArchitectures: list(object(entry)?.subArchitectures)?.map(String) ?? [],
          })),
        }
      : {}),
    syscalls: (list(profile.syscalls) ?? []).map((entry) => rule(object(entry), refuse)),
  };
}

function rule(entry: Record<string, unknown> | undefined, refuse: (reason: string) => never): SeccompRule {
  if (entry === undefined) return refuse('a rule of syscalls is not an object');
  if (typeof entry.name === 'string' && entry.name !== '' && list(entry.names)?.length) return refuse("use either 'name' or 'names'");
  const names = typeof entry.name === 'string' && entry.name !== '' ? [entry.name] : (list(entry.names)?.map(String) ?? []);
  if (typeof entry.action !== 'string' || !actionPattern.test(entry.action)) return refuse('the action of a rule is unknown');
  return {
    names,
    action: entry.action,
    ...(typeof entry.errnoRet === 'number' ? { errnoRet: entry.errnoRet } : {}),
    args: (list(entry.args) ?? []).map((each) => {
      const arg = object(each);
      return { index: Number(arg?.index ?? 0), value: Number(arg?.value ?? 0), valueTwo: Number(arg?.valueTwo ?? 0), op: String(arg?.op) };
    }),
    ...(object(entry.includes) === undefined ? {} : { includes: filter(object(entry.includes)) }),
    ...(object(entry.excludes) === undefined ? {} : { excludes: filter(object(entry.excludes)) }),
  };
}

function filter(entry: Record<string, unknown> | undefined): SeccompFilter {
  return {
    caps: list(entry?.caps)?.map(String) ?? [],
    arches: list(entry?.arches)?.map(String) ?? [],
    ...(typeof entry?.minKernel === 'string' ? { minKernel: entry.minKernel } : {}),
  };
}

function object(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value)) : undefined;
}

function list(value: unknown): unknown[] | undefined {
  return Array.isArray(value) ? value : undefined;
}
