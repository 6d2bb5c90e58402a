/** daemon.json: dockerd's keys, dockerd's errors. What dockerd knows and we do not is refused by name unless it asks for what is so anyway. */
import { readFileSync } from 'node:fs';
import { errorMessage, InvalidParameter } from '@flotilla/errors/classes';
import { type Directive, directives, type RawSettings } from './directives.ts';
import { areFeaturesSo, fixedDirectives, unmetDirective } from './fixedDirectives.ts';

/** Read when no --config-file is given and it exists. Never dockerd's own file: its data-root belongs to dockerd. */
export const defaultConfigFile = '/etc/flotilla/daemon.json';

/** Keys that say which stack is meant: flags of every command, and also keys of the file. */
const stackKeys: readonly Pick<Directive, 'key' | 'kind'>[] = [
  { key: 'data-root', kind: 'string' },
  { key: 'exec-root', kind: 'string' },
];

/** Keys that only dockerd has a use for. */
const notSupported = new Set(
  `allow-nondistributable-artifacts api-cors-header authorization-plugins builder cdi-spec-dirs containerd containerd-namespace
  containerd-plugin-namespace cpu-rt-period cpu-rt-runtime init-path log-format max-download-attempts
  metrics-addr min-api-version network-control-plane-mtu node-generic-resources oom-score-adjust
  swarm-default-advertise-addr allow-direct-routing bridge-accept-fwmark firewall-backend`.split(/\s+/),
);

function refuse(path: string, what: string): InvalidParameter {
  return new InvalidParameter(`unable to configure the Docker daemon with file ${path}: ${what}`);
}

/**
 * Reads daemon.json.
 *
 * @throws InvalidParameter in dockerd's words: not JSON, unknown or unsupported keys, values of the wrong type.
 */
export function readDaemonFile(path: string): RawSettings {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw refuse(path, errorMessage(error));
  }
  return parseDaemonFile(path, text);
}

export function parseDaemonFile(path: string, text: string): RawSettings {
  if (text.trim() === '') return new Map();
  let document: unknown;
  try {
    document = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw refuse(path, errorMessage(error));
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) throw refuse(path, 'must be a JSON object');

  const known = new Map([...stackKeys, ...directives, ...fixedDirectives].map((directive) => [directive.key, directive.kind]));
  const unknown: string[] = [];
  const entries = Object.entries(document).flatMap(([key, value]) => spelledOut(path, key, value));
  const settings = new Map<string, unknown>();
  for (const [key, value] of entries) {
    const kind = known.get(key);
    if (kind !== undefined) {
      if (!fits(kind, value)) throw refuse(path, `${key}: ${shapes[kind]} is wanted, not ${JSON.stringify(value)}`);
      settings.set(key, value);
    } else if (key === 'features') {
      if (!areFeaturesSo(value)) throw refuse(path, `${key}: ${JSON.stringify(value)} is not supported`);
      settings.set(key, value);
    } else if (notSupported.has(key)) {
      throw refuse(path, `the directive ${key} is not supported`);
    } else {
      unknown.push(key);
    }
  }
  if (unknown.length > 0) {
    throw refuse(path, `the following directives don't match any configuration option: ${unknown.join(', ')}`);
  }
  const unmet = unmetDirective(settings);
  if (unmet !== undefined) throw refuse(path, `${unmet[0].key}: ${JSON.stringify(unmet[1])} is not supported`);
  return settings;
}

const proxyKeys = ['http-proxy', 'https-proxy', 'no-proxy'];

/** Keys that say the same as flags in another form. */
function spelledOut(path: string, key: string, value: unknown): [string, unknown][] {
  if (key === 'host-gateway-ip') return [['host-gateway-ips', typeof value === 'string' ? [value] : value]];
  if (key !== 'proxies') return [[key, value]];
  if (!isObject(value) || !Object.keys(value).every((name) => proxyKeys.includes(name))) {
    throw refuse(path, `proxies: an object of ${proxyKeys.join(', ')} is wanted, not ${JSON.stringify(value)}`);
  }
  return Object.entries(value);
}

const shapes: Readonly<Record<Directive['kind'], string>> = {
  string: 'a string',
  boolean: 'a boolean',
  number: 'a whole number',
  list: 'an array of strings',
  map: 'an object of strings',
  mapOfMaps: 'an object of objects of strings',
  pools: 'an array of {"base": CIDR, "size": BITS}',
  ulimits: 'an object of {"Name", "Hard", "Soft"}',
  runtimes: 'an object of {"path": PATH}',
};

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fits(kind: Directive['kind'], value: unknown): boolean {
  switch (kind) {
    case 'string':
    case 'boolean':
      return typeof value === kind;
    case 'number':
      return Number.isInteger(value);
    case 'list':
      return Array.isArray(value) && value.every((item) => typeof item === 'string');
    case 'map':
      return isObject(value) && Object.values(value).every((item) => typeof item === 'string');
    case 'mapOfMaps':
      return isObject(value) && Object.values(value).every((item) => fits('map', item));
    case 'pools':
      return Array.isArray(value) && value.every((pool) => isObject(pool) && typeof pool.base === 'string' && Number.isInteger(pool.size));
    case 'ulimits':
      return (
        isObject(value) &&
        Object.values(value).every((item) => isObject(item) && Number.isInteger(item.Hard) && Number.isInteger(item.Soft))
      );
    case 'runtimes':
      return isObject(value) && Object.values(value).every((item) => isObject(item) && typeof item.path === 'string');
  }
}

/**
 * Flags over file. A directive in both is an error, as with dockerd.
 *
 * @throws InvalidParameter that names each conflict with both values.
 */
export function mergeSettings(flags: RawSettings, file: RawSettings, path: string): RawSettings {
  const conflicts = [...flags]
    .filter(([key]) => file.has(key))
    .map(([key, value]) => `${key}: (from flag: ${show(value)}, from file: ${show(file.get(key))})`);
  if (conflicts.length > 0) {
    throw refuse(path, `the following directives are specified both as a flag and in the configuration file: ${conflicts.join(', ')}`);
  }
  return new Map([...file, ...flags]);
}

/** As Go prints a value: lists in brackets with spaces. */
function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(' ')}]`;
  if (isObject(value))
    return `map[${Object.entries(value)
      .map(([key, item]) => `${key}:${show(item)}`)
      .join(' ')}]`;
  return String(value);
}
