/** Which containers a list shows, and in which order: the Engine API's filters. */
import { InvalidParameter } from '@flotilla/errors';
import { textFilter } from '@flotilla/service-kit/regularExpression';
import { parseNano } from './clock.ts';
import type { ContainerRecord } from './container.ts';
import { networkSettings } from './inspect.ts';

export type Filters = Readonly<Record<string, readonly string[]>>;

export interface ListRequest {
  readonly all: boolean;
  /** 0: no limit. */
  readonly limit: number;
  readonly filters: Filters;
}

export interface ListLookups {
  /** @throws NotFound */
  find(reference: string): ContainerRecord;
  /** ids of the images that an `ancestor` names; undefined when there is none. */
  ancestors(reference: string): Promise<readonly string[] | undefined>;
}

const states = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];
const healths = ['starting', 'healthy', 'unhealthy', 'none'];
const known = [
  'ancestor',
  'before',
  'expose',
  'exited',
  'health',
  'id',
  'isolation',
  'label',
  'name',
  'network',
  'publish',
  'since',
  'status',
  'volume',
  'is-task',
];

type Test = (container: ContainerRecord) => boolean;

/** Newest first. @throws InvalidParameter for a filter or value that does not exist, in dockerd's words. */
export async function selectContainers(
  containers: Iterable<ContainerRecord>,
  request: ListRequest,
  lookups: ListLookups,
): Promise<ContainerRecord[]> {
  const tests = await filterTests(request.filters, lookups);
  const everything = request.all || request.limit > 0 || request.filters.status !== undefined;
  const chosen = [...containers].filter(
    (container) => (everything || isShownByDefault(container)) && tests.every((test) => test(container)),
  );
  chosen.sort(newestFirst);
  return request.limit > 0 ? chosen.slice(0, request.limit) : chosen;
}

function isShownByDefault({ state }: ContainerRecord): boolean {
  return state.run !== undefined || state.status === 'restarting';
}

function newestFirst(a: ContainerRecord, b: ContainerRecord): number {
  if (a.created === b.created) return a.id < b.id ? -1 : 1;
  const [left, right] = [parseNano(a.created), parseNano(b.created)];
  return left < right ? 1 : -1;
}

export function checkFilterNames(filters: Filters, allowed: readonly string[]): void {
  const wrong = Object.keys(filters).find((name) => !allowed.includes(name));
  if (wrong !== undefined) throw new InvalidParameter(`invalid filter '${wrong}'`);
}

function invalid(name: string, value: string): InvalidParameter {
  return new InvalidParameter(`invalid filter '${name}=${value}'`);
}

async function filterTests(filters: Filters, lookups: ListLookups): Promise<Test[]> {
  checkFilterNames(filters, known);
  const tests: Test[] = [];
  const some = (name: string, make: (value: string) => Test): void => {
    const values = filters[name];
    if (values === undefined || values.length === 0) return;
    const each = values.map(make);
    tests.push((container) => each.some((test) => test(container)));
  };
  some('id', (value) => textTest(value, (container) => [container.id]));
  some('name', (value) => textTest(value, (container) => [`/${container.name}`, container.name]));
  for (const label of filters.label ?? []) tests.push(labelTest(label));
  some('status', (value) => {
    if (!states.includes(value)) throw new InvalidParameter(`invalid filter 'status=${value}'`);
    return ({ state }) => state.status === value;
  });
  some('health', (value) => {
    if (!healths.includes(value)) throw new InvalidParameter(`unrecognised filter value for health: ${value}`);
    return ({ state }) => (state.health?.Status ?? 'none') === value;
  });
  some('exited', (value) => {
    if (!/^-?\d+$/.test(value)) throw invalid('exited', value);
    return ({ state }) => state.exitCode === Number(value) && state.run === undefined && state.status === 'exited';
  });
  some(
    'network',
    (value) => (container) =>
      Object.entries(networkSettings(container).Networks).some(
        ([name, endpoint]) => name === value || (endpoint.NetworkID ?? '').startsWith(value),
      ),
  );
  some(
    'volume',
    (value) =>
      ({ mounts }) =>
        mounts.some((mount) => (mount.name || mount.source) === value || mount.destination === value),
  );
  some('publish', (value) => portTest('publish', value, (container) => publishedPorts(container)));
  some('expose', (value) => portTest('expose', value, (container) => exposedPorts(container)));
  some('is-task', (value) => {
    const wanted = parseBoolean('is-task', value);
    return ({ config }) => (config.Labels?.['com.docker.swarm.task'] !== undefined) === wanted;
  });
  some('isolation', () => () => true);
  const bound = (name: 'before' | 'since'): void => {
    const values = filters[name] ?? [];
    for (const value of values) {
      const limit = lookups.find(value);
      const at = parseNano(limit.created);
      tests.push(
        (container) =>
          container.id !== limit.id && (name === 'before' ? parseNano(container.created) < at : parseNano(container.created) > at),
      );
    }
  };
  bound('before');
  bound('since');
  await ancestorTest(filters.ancestor, lookups, tests);
  return tests;
}

async function ancestorTest(values: readonly string[] | undefined, lookups: ListLookups, tests: Test[]): Promise<void> {
  if (values === undefined || values.length === 0) return;
  const ids = new Set((await Promise.all(values.map((value) => lookups.ancestors(value)))).flatMap((found) => found ?? []));
  tests.push((container) => ids.has(container.image.id));
}

function textTest(value: string, texts: (container: ContainerRecord) => string[]): Test {
  const matches = textFilter(value);
  return (container) => texts(container).some(matches);
}

/** `key` or `key=value`. */
export function labelTest(label: string): Test {
  const equals = label.indexOf('=');
  const key = equals < 0 ? label : label.slice(0, equals);
  return ({ config }) => {
    const value = config.Labels?.[key];
    return value !== undefined && (equals < 0 || value === label.slice(equals + 1));
  };
}

function publishedPorts(container: ContainerRecord): string[] {
  return Object.entries(networkSettings(container).Ports ?? {}).flatMap(([key, bindings]) => {
    const protocol = key.split('/')[1] ?? 'tcp';
    return (bindings ?? []).map((binding) => `${binding.HostPort ?? ''}/${protocol}`);
  });
}

function exposedPorts(container: ContainerRecord): string[] {
  return [...Object.keys(networkSettings(container).Ports ?? {}), ...Object.keys(container.config.ExposedPorts ?? {})];
}

/** `port[-end][/protocol]`. */
function portTest(filter: string, value: string, ports: (container: ContainerRecord) => string[]): Test {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/.exec(value);
  if (match === null) throw new InvalidParameter(`invalid filter '${filter}=${value}'`);
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  const protocol = match[3] ?? 'tcp';
  return (container) =>
    ports(container).some((text) => {
      const [port = '', its = 'tcp'] = text.split('/');
      return its === protocol && Number(port) >= first && Number(port) <= last;
    });
}

function parseBoolean(name: string, value: string): boolean {
  if (/^(1|t|true)$/i.test(value)) return true;
  if (/^(0|f|false)$/i.test(value)) return false;
  throw invalid(name, `[${value}]`);
}
