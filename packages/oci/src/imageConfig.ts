/** Image configs: what a container made from an image runs by default, and which layers it stands on. @see OCI image-spec config.md */
import { contentDigest } from './descriptor.ts';
import type { Digest } from './digest.ts';
import {
  asObject,
  type JsonObject,
  optionalArray,
  optionalBoolean,
  optionalInteger,
  optionalString,
  optionalStringMap,
  optionalStrings,
  parseObject,
} from './document.ts';
import { InvalidContent } from './errors.ts';
import { maxLayers } from './manifest.ts';

/** Durations in nanoseconds, as docker writes them. */
export interface Healthcheck {
  /** `['NONE']`, `['CMD', …]` or `['CMD-SHELL', command]`; empty inherits. */
  readonly Test?: readonly string[];
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly StartPeriod?: number;
  readonly StartInterval?: number;
  readonly Retries?: number;
}

export interface ContainerDefaults {
  readonly User?: string;
  readonly ExposedPorts?: Readonly<Record<string, Readonly<Record<string, never>>>>;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Volumes?: Readonly<Record<string, Readonly<Record<string, never>>>>;
  readonly WorkingDir?: string;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly ArgsEscaped?: boolean;
  readonly Healthcheck?: Healthcheck;
  readonly OnBuild?: readonly string[];
  readonly Shell?: readonly string[];
}

export interface HistoryEntry {
  readonly created?: string;
  readonly created_by?: string;
  readonly author?: string;
  readonly comment?: string;
  /** The step made no layer. */
  readonly empty_layer?: boolean;
}

export interface ImageConfig {
  /** RFC 3339. */
  readonly created?: string;
  readonly author?: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly os: string;
  readonly 'os.version'?: string;
  readonly config: ContainerDefaults;
  readonly rootfs: { readonly type: string; readonly diff_ids: readonly Digest[] };
  readonly history: readonly HistoryEntry[];
  readonly docker_version?: string;
  readonly comment?: string;
}

export const maxConfigBytes: number = 8 * 1024 * 1024;
const maxEntries = 10_000;

/** Parses an image config. @throws InvalidContent */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const object = parseObject('image config', bytes, maxConfigBytes);
  const rootfs = asObject('image config.rootfs', object.rootfs ?? {});
  const diffIds = optionalArray('image config.rootfs.diff_ids', rootfs.diff_ids, maxLayers) ?? [];
  return {
    ...texts('image config', object, ['created', 'author', 'variant', 'os.version', 'docker_version', 'comment'] as const),
    architecture: optionalString('image config.architecture', object.architecture) ?? '',
    os: optionalString('image config.os', object.os) ?? '',
    config: parseContainerDefaults('image config.config', object.config),
    rootfs: {
      type: optionalString('image config.rootfs.type', rootfs.type) || 'layers',
      diff_ids: diffIds.map((id, i) => contentDigest(`image config.rootfs.diff_ids[${i}]`, id)),
    },
    history: (optionalArray('image config.history', object.history, maxEntries) ?? []).map((entry, i) => parseHistory(i, entry)),
  };
}

/** The fields among `names` that hold a text. */
function texts<K extends string>(what: string, object: JsonObject, names: readonly K[]): { readonly [N in K]?: string } {
  const found: { [N in K]?: string } = {};
  for (const name of names) {
    const text = optionalString(`${what}.${name}`, object[name]);
    if (text !== undefined && text !== '') found[name] = text;
  }
  return found;
}

function parseHistory(index: number, value: unknown): HistoryEntry {
  const what = `image config.history[${index}]`;
  const object = asObject(what, value);
  const empty = optionalBoolean(`${what}.empty_layer`, object.empty_layer);
  return {
    ...texts(what, object, ['created', 'created_by', 'author', 'comment'] as const),
    ...(empty === true ? { empty_layer: true } : {}),
  };
}

/** The `config` part, with what is absent or null left out. @throws InvalidContent */
export function parseContainerDefaults(what: string, value: unknown): ContainerDefaults {
  if (value === undefined || value === null) return {};
  const object = asObject(what, value);
  const result: { -readonly [K in keyof ContainerDefaults]: ContainerDefaults[K] } = texts(what, object, [
    'User',
    'WorkingDir',
    'StopSignal',
  ] as const);
  for (const name of ['Env', 'Entrypoint', 'Cmd', 'OnBuild', 'Shell'] as const) {
    const strings = optionalStrings(`${what}.${name}`, object[name], maxEntries);
    if (strings !== undefined) result[name] = strings;
  }
  for (const name of ['ExposedPorts', 'Volumes'] as const) {
    if (object[name] === undefined || object[name] === null) continue;
    result[name] = Object.fromEntries(Object.keys(asObject(`${what}.${name}`, object[name])).map((key) => [key, {}]));
  }
  const labels = optionalStringMap(`${what}.Labels`, object.Labels);
  if (labels !== undefined) result.Labels = labels;
  const escaped = optionalBoolean(`${what}.ArgsEscaped`, object.ArgsEscaped);
  if (escaped === true) result.ArgsEscaped = true;
  if (object.Healthcheck !== undefined && object.Healthcheck !== null)
    result.Healthcheck = parseHealthcheck(`${what}.Healthcheck`, object.Healthcheck);
  return result;
}

function parseHealthcheck(what: string, value: unknown): Healthcheck {
  const object = asObject(what, value);
  const result: { -readonly [K in keyof Healthcheck]: Healthcheck[K] } = {};
  const test = optionalStrings(`${what}.Test`, object.Test, maxEntries);
  if (test !== undefined) result.Test = test;
  for (const name of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries'] as const) {
    const number = optionalInteger(`${what}.${name}`, object[name]);
    if (number !== undefined && number < 0) throw new InvalidContent(`${what}.${name} is negative`);
    if (number !== undefined && number !== 0) result[name] = number;
  }
  return result;
}
