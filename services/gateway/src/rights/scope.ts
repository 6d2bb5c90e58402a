/**
 * What lies outside of a role's own objects does not exist for it: it is not in lists, not told in events, and not found by name. Decided on the calls that
 * the gateway makes, which is what is acted on, and not on what the client wrote.
 */
import type { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { Forbidden, NotFound } from '@flotilla/errors';
import {
  isWithin,
  type Limits,
  limitsOfCaller,
  notWithin,
  type PolicySource,
  type SharingDocument,
  sharedBy,
} from '@flotilla/service-kit/rights';
import { type Backends, read } from '../backends.ts';
import type { Events } from '../events/follow.ts';
import { bytesOf, type Kept, ReadCopies, type ReadCopiesOptions } from '../readCopies.ts';

type Labels = Record<string, string> | null | undefined;
type Call = (request: Record<string, unknown>, options?: unknown) => unknown;

const ownOf = (policy: PolicySource): Limits | undefined => limitsOfCaller(policy, 'objects');

const isLimited = (policy: PolicySource): boolean => ownOf(policy) !== undefined || limitsOfCaller(policy, 'images') !== undefined;

const parse = <T>(bytes: Uint8Array): T => JSON.parse(Buffer.from(bytes).toString('utf8')) as T;
const bytes = (document: unknown): Uint8Array => Buffer.from(JSON.stringify(document));

class Scope {
  private readonly backends: Backends;

  constructor(backends: Backends) {
    this.backends = backends;
  }

  async container(own: Limits, name: string): Promise<void> {
    const { containerJson } = await this.backends.containers.inspect({ container: name, size: false }, read);
    const { Name, Config } = parse<{ Name: string; Config: { Labels: Labels } }>(containerJson);
    if (!isWithin(own, Name, Config.Labels)) throw new NotFound(`No such container: ${name}`);
  }

  async exec(own: Limits, id: string): Promise<void> {
    const { execJson } = await this.backends.execs.inspect({ exec: id }, read);
    try {
      await this.container(own, parse<{ ContainerID: string }>(execJson).ContainerID);
    } catch (error) {
      throw new NotFound(`No such exec instance: ${id}`, { cause: error });
    }
  }

  /** The engine's own networks are everyone's. */
  async network(own: Limits, name: string): Promise<void> {
    const { networkJson } = await this.backends.networks.inspect({ network: name, verbose: false, scope: '' }, read);
    const { Name, Labels } = parse<{ Name: string; Labels: Labels }>(networkJson);
    if (!isBuiltIn(Name) && !isWithin(own, Name, Labels)) throw new NotFound(`network ${name} not found`);
  }

  async volume(own: Limits, name: string): Promise<void> {
    const { volumeJson } = await this.backends.volumes.inspect({ name }, read);
    const { Name, Labels } = parse<{ Name: string; Labels: Labels }>(volumeJson);
    if (!isWithin(own, Name, Labels)) throw new NotFound(`get ${name}: no such volume`);
  }

  /** A network's document without the containers of others. */
  async withOwnContainers(networkJson: Uint8Array): Promise<Uint8Array> {
    const network = parse<{ Containers?: Record<string, unknown> | null }>(networkJson);
    if (Object.keys(network.Containers ?? {}).length === 0) return networkJson;
    // What is listed is the caller's own.
    const { containersJson } = await this.backends.containers.list({ all: true, limit: 0, size: false, filters: {} }, read);
    const own = new Set((parse<{ Id: string }[] | null>(containersJson) ?? []).map(({ Id }) => Id));
    const shown = Object.entries(network.Containers ?? {}).filter(([id]) => own.has(id));
    return bytes({ ...network, Containers: Object.fromEntries(shown) });
  }

  /** A volume that a container names: one's own, or one that will be made with that name. */
  async namedVolume(own: Limits, name: string): Promise<void> {
    if (name === '' || isWithin(own, name, undefined)) return;
    try {
      await this.volume(own, name);
    } catch (error) {
      throw new Forbidden(`access denied: the volume ${name} is not yours to use`, { cause: error });
    }
  }

  async newContainer(own: Limits, name: string, config: CreateDocument): Promise<void> {
    mustBeWithin(own, 'container', name, config.Labels);
    const host = config.HostConfig ?? {};
    const { joined, linked } = sharedBy(config);
    for (const reference of [...joined, ...linked]) await this.container(own, reference);
    const networks = [host.NetworkMode ?? '', ...Object.keys(config.NetworkingConfig?.EndpointsConfig ?? {})];
    for (const network of networks) {
      if (network !== '' && network !== 'default' && !isBuiltIn(network) && !network.startsWith('container:'))
        await this.network(own, network);
    }
    for (const bind of host.Binds ?? [])
      if (!bind.startsWith('/') && bind.includes(':')) await this.namedVolume(own, bind.split(':', 1)[0] ?? '');
    for (const mount of host.Mounts ?? []) if (mount.Type === 'volume') await this.namedVolume(own, mount.Source ?? '');
  }
}

interface CreateDocument extends SharingDocument {
  readonly Labels?: Record<string, string>;
  readonly HostConfig?: SharingDocument['HostConfig'] & {
    readonly Binds?: readonly string[];
    readonly Mounts?: readonly { readonly Type?: string; readonly Source?: string }[];
  };
  readonly NetworkingConfig?: { readonly EndpointsConfig?: Record<string, unknown> };
}

const isBuiltIn = (network: string): boolean => network === 'bridge' || network === 'host' || network === 'none';

function mustBeWithin(own: Limits, what: string, name: string, labels: Labels): void {
  if (!isWithin(own, name, labels)) throw notWithin(own, `a ${what}`);
}

/** Lists of a service's answers, by method: the field, and the list in it. */
const lists: Readonly<Record<string, string>> = {
  'networks.list': 'networksJson',
  'volumes.list': 'volumesJson',
};

/** The services as the one who asks may see them. What images and containers one sees listed, and what a prune removes, the services decide themselves; the build cache is everybody's. */
export function scopeBackends(backends: Backends, policy: PolicySource): Backends {
  const scope = new Scope(backends);
  const check = async (own: Limits, service: keyof Backends, method: string, request: Record<string, unknown>): Promise<void> => {
    if (service === 'containers' && method === 'create') {
      await scope.newContainer(own, String(request.name ?? ''), parse<CreateDocument>(request.configJson as Uint8Array));
      return;
    }
    if ((service === 'networks' || service === 'volumes') && method === 'create') {
      const { Name, Labels } = parse<{ Name?: string; Labels?: Labels }>(request.configJson as Uint8Array);
      mustBeWithin(own, service.slice(0, -1), Name ?? '', Labels);
      return;
    }
    if (typeof request.container === 'string') await scope.container(own, request.container);
    if (typeof request.exec === 'string') await scope.exec(own, request.exec);
    if (typeof request.network === 'string') await scope.network(own, request.network);
    if (service === 'volumes' && typeof request.name === 'string') await scope.volume(own, request.name);
    // A new name may not take a container out of one's own, or into another's.
    if (method === 'rename') mustBeWithin(own, 'container', String(request.newName), undefined);
  };
  const wrap = (service: keyof Backends): unknown =>
    new Proxy(backends[service] as object, {
      get(target, method, receiver) {
        const call = Reflect.get(target, method, receiver) as Call;
        if (typeof call !== 'function' || typeof method !== 'string') return call;
        if (method === 'wait' || method === 'stats' || method === 'pull' || method === 'push') {
          return async function* (request: Record<string, unknown>, options?: unknown): AsyncIterable<unknown> {
            const own = ownOf(policy);
            if (own !== undefined) await check(own, service, method, request);
            yield* call.call(target, request, options) as AsyncIterable<unknown>;
          };
        }
        return async (request: Record<string, unknown>, options?: unknown): Promise<unknown> => {
          const own = ownOf(policy);
          if (service === 'builds' && method === 'prune' && isLimited(policy))
            throw new Forbidden('access denied: a prune reaches beyond what is yours');
          if (own === undefined) return call.call(target, request, options);
          await check(own, service, method, request);
          const field = lists[`${service}.${method}`];
          const answer = (await call.call(target, request, options)) as Record<string, unknown>;
          if (service === 'networks' && method === 'inspect')
            return { ...answer, networkJson: await scope.withOwnContainers(answer.networkJson as Uint8Array) };
          if (field === undefined) return answer;
          const shown = (parse<Listed[] | null>(answer[field] as Uint8Array) ?? []).filter((each) => isShown(own, each, service));
          return { ...answer, [field]: bytes(shown) };
        };
      },
    });
  return Object.fromEntries(
    (Object.keys(backends) as (keyof Backends)[]).map((service) => [service, wrap(service)]),
  ) as unknown as Backends;
}

interface Listed {
  readonly Name: string;
  readonly Labels?: Labels;
}

function isShown(own: Limits, { Name, Labels }: Listed, service: keyof Backends): boolean {
  return (service === 'networks' && isBuiltIn(Name)) || isWithin(own, Name, Labels);
}

/** Events of what one may see. */
export function scopeEvents(events: Events, policy: PolicySource): Events {
  return {
    async follow(options) {
      const own = ownOf(policy);
      const images = limitsOfCaller(policy, 'images');
      const following = await events.follow(options);
      return own === undefined && images === undefined ? following : within(following, own, images);
    },
    get followerCount() {
      return events.followerCount;
    },
  };
}

async function* within(events: AsyncIterable<Event>, own: Limits | undefined, images: Limits | undefined): AsyncIterable<Event> {
  for await (const event of events) {
    const { name = event.actorId, ...labels } = event.attributes;
    for (const label of event.inheritedLabels) delete labels[label];
    if (isWithin(event.type === 'image' ? images : own, name, labels)) yield event;
  }
}

/** Copies are for those who see all; the others are answered from the service, through their limits. */
export class ScopedCopies extends ReadCopies {
  private readonly policy: PolicySource;

  constructor(options: ReadCopiesOptions, policy: PolicySource) {
    super(options);
    this.policy = policy;
  }

  override async read(key: string, fetch: () => Promise<Kept>): Promise<Uint8Array> {
    return isLimited(this.policy) ? bytesOf(await fetch()) : super.read(key, fetch);
  }
}
