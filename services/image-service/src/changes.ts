/** Dockerfile instructions as `--change` of import and commit gives them, applied to an image's defaults. */
import { InvalidParameter } from '@flotilla/errors';
import { type ContainerDefaults, type Healthcheck, InvalidContent, parseContainerDefaults } from '@flotilla/oci';

type Mutable = { -readonly [K in keyof ContainerDefaults]: ContainerDefaults[K] };

const durationUnits: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };

/** @throws InvalidParameter in dockerd's words for an instruction that may not be used here, or is malformed. */
export function applyChanges(defaults: ContainerDefaults, changes: readonly string[]): ContainerDefaults {
  const config: Mutable = { ...defaults };
  for (const change of changes.flatMap((text) => text.replace(/\\\n/g, '').split('\n'))) {
    const line = change.trim();
    if (line !== '' && !line.startsWith('#')) applyChange(config, line);
  }
  return config;
}

function applyChange(config: Mutable, line: string): void {
  const match = /^(\S+)(?:\s+(.*))?$/s.exec(line);
  const instruction = (match?.[1] ?? '').toUpperCase();
  const rest = (match?.[2] ?? '').trim();
  const needed = (): string => {
    if (rest === '') throw new InvalidParameter(`${instruction} requires at least one argument`);
    return rest;
  };
  switch (instruction) {
    case 'CMD':
      config.Cmd = command(rest);
      return;
    case 'ENTRYPOINT':
      config.Entrypoint = command(rest);
      return;
    case 'ENV':
      config.Env = withVariables(config.Env ?? [], pairs(needed(), 'ENV'));
      return;
    case 'LABEL':
      config.Labels = { ...config.Labels, ...Object.fromEntries(pairs(needed(), 'LABEL')) };
      return;
    case 'EXPOSE':
      config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(needed().split(/\s+/).flatMap(ports)) };
      return;
    case 'VOLUME':
      config.Volumes = { ...config.Volumes, ...Object.fromEntries((jsonList(needed()) ?? rest.split(/\s+/)).map((path) => [path, {}])) };
      return;
    case 'USER':
      config.User = needed();
      return;
    case 'WORKDIR':
      config.WorkingDir = workingDirectory(config.WorkingDir ?? '/', needed());
      return;
    case 'STOPSIGNAL':
      config.StopSignal = needed();
      return;
    case 'ONBUILD':
      config.OnBuild = [...(config.OnBuild ?? []), needed()];
      return;
    case 'HEALTHCHECK':
      config.Healthcheck = healthcheck(needed());
      return;
    default:
      throw new InvalidParameter(`${instruction.toLowerCase()} is not a valid change command`);
  }
}

function jsonList(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  try {
    const list = JSON.parse(text) as unknown;
    return Array.isArray(list) && list.every((each) => typeof each === 'string') ? (list as string[]) : undefined;
  } catch {
    return undefined;
  }
}

function command(text: string): string[] {
  if (text === '') return [];
  return jsonList(text) ?? ['/bin/sh', '-c', text];
}

/** `k=v k2="v 2"`, or the old form `k the rest`. */
function pairs(text: string, instruction: string): [string, string][] {
  const tokens = words(text);
  const [first = ''] = tokens;
  if (!first.includes('=')) {
    const space = /^(\S+)\s+(.+)$/s.exec(text);
    if (space === null) throw new InvalidParameter(`${instruction} must have two arguments`);
    return [[space[1] ?? '', space[2] ?? '']];
  }
  return tokens.map((token) => {
    const equals = token.indexOf('=');
    if (equals <= 0) throw new InvalidParameter(`Syntax error - can't find = in "${token}". Must be of the form: name=value`);
    return [token.slice(0, equals), token.slice(equals + 1)];
  });
}

/** Splits at spaces that no quote or backslash protects, and takes quotes away. */
function words(text: string): string[] {
  const found: string[] = [];
  let word = '';
  let inWord = false;
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i);
    if (quote !== '') {
      if (character === quote) quote = '';
      else if (character === '\\' && quote === '"' && i + 1 < text.length) word += text.charAt(++i);
      else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      inWord = true;
    } else if (character === '\\' && i + 1 < text.length) {
      word += text.charAt(++i);
      inWord = true;
    } else if (/\s/.test(character)) {
      if (inWord) found.push(word);
      word = '';
      inWord = false;
    } else {
      word += character;
      inWord = true;
    }
  }
  if (inWord) found.push(word);
  return found;
}

function withVariables(env: readonly string[], added: readonly [string, string][]): string[] {
  const names = new Set(added.map(([name]) => name));
  const kept = env.filter((each) => !names.has(each.slice(0, each.includes('=') ? each.indexOf('=') : each.length)));
  return [...kept, ...added.map(([name, value]) => `${name}=${value}`)];
}

function ports(text: string): [string, Record<string, never>][] {
  const match = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(text);
  const first = Number(match?.[1]);
  const last = match?.[2] === undefined ? first : Number(match[2]);
  if (match === null || first < 1 || last > 65_535 || last < first) throw new InvalidParameter(`Invalid containerPort: ${text}`);
  const protocol = (match[3] ?? 'tcp').toLowerCase();
  return Array.from({ length: last - first + 1 }, (_, i) => [`${first + i}/${protocol}`, {}]);
}

function workingDirectory(current: string, path: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith('/') ? path : `${current}/${path}`).split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

function healthcheck(text: string): Healthcheck {
  let rest = text;
  const options: { Interval?: number; Timeout?: number; StartPeriod?: number; StartInterval?: number; Retries?: number } = {};
  const names = { interval: 'Interval', timeout: 'Timeout', 'start-period': 'StartPeriod', 'start-interval': 'StartInterval' } as const;
  for (let match = /^--([a-z-]+)=(\S+)\s*/.exec(rest); match !== null; match = /^--([a-z-]+)=(\S+)\s*/.exec(rest)) {
    const [whole, name = '', value = ''] = match;
    rest = rest.slice(whole.length);
    if (name === 'retries') options.Retries = Number(value);
    else if (Object.hasOwn(names, name)) options[names[name as keyof typeof names]] = duration(value);
    else throw new InvalidParameter(`unknown flag: ${name}`);
  }
  const match = /^(\S+)\s*(.*)$/s.exec(rest);
  const type = (match?.[1] ?? '').toUpperCase();
  const argument = match?.[2] ?? '';
  if (type === 'NONE') return { Test: ['NONE'] };
  if (type !== 'CMD') throw new InvalidParameter(`Unknown type "${type}" in HEALTHCHECK (try CMD)`);
  if (argument === '') throw new InvalidParameter('Missing command after HEALTHCHECK CMD');
  const list = jsonList(argument);
  return { Test: list === undefined ? ['CMD-SHELL', argument] : ['CMD', ...list], ...options };
}

function duration(text: string): number {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) throw new InvalidParameter(`time: invalid duration "${text}"`);
  let nanoseconds = 0;
  for (const [, amount, unit = ''] of text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
    nanoseconds += Number(amount) * (durationUnits[unit] ?? 0);
  return nanoseconds;
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
