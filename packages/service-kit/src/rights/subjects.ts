/** What a call works on, as the service that carries it out has it in its records: rights are checked on that, whatever the client wrote. */
import { Forbidden, NotFound } from '@flotilla/errors';
import { currentRequest } from '../requestContext.ts';
import { type Danger, dangersOfMade, dangersOfVolume } from './dangers.ts';
import type { PolicySource } from './policyFile.ts';

/** Whatever lies outside of it does not exist for a role. */
export interface Limits {
  readonly prefixes: readonly string[];
  /** `key=value` */
  readonly labels: readonly string[];
}

export interface Subject {
  readonly kind: 'container' | 'network' | 'volume';
  readonly name: string;
  readonly labels: Readonly<Record<string, string>> | null | undefined;
  /** What whoever uses it has of the host. */
  readonly dangers?: ReadonlySet<Danger>;
  /** It is made by the call. */
  readonly isNew?: boolean;
  /** It is in nobody's name, so nobody is kept from it; what it has of the host counts all the same. */
  readonly isNobodys?: boolean;
  /** What it has of the host is shared by the call, whatever the method. */
  readonly isJoined?: boolean;
  /** What the caller is told when it is not his to see. */
  readonly missing: string;
}

/** The subjects of a call, by its method; none for what has none, or is not there: that is told by the call itself. */
export type SubjectsOf = (path: string, request: unknown) => Promise<readonly Subject[]>;

type Fields = Readonly<Record<string, unknown>>;

/** A field of a request, or an empty text. */
export function textOf(request: unknown, field: string): string {
  const value = (request as Fields)[field];
  return typeof value === 'string' ? value : '';
}

/** The document that a request carries as JSON; empty when it is none. */
export function documentIn(request: unknown, field: string): Fields {
  const value = (request as Fields)[field];
  if (!(value instanceof Uint8Array) || value.length === 0) return {};
  try {
    const document: unknown = JSON.parse(Buffer.from(value).toString('utf8'));
    return typeof document === 'object' && document !== null ? (document as Fields) : {};
  } catch {
    return {};
  }
}

/** @param config - with its HostConfig in it, as ContainerCreate has it. */
export function containerSubject(name: string, config: Fields & { readonly Labels?: Subject['labels'] }, reference: string): Subject {
  return { kind: 'container', name, labels: config.Labels, dangers: dangersOfMade(config), missing: `No such container: ${reference}` };
}

export function volumeSubject(name: string, labels: Subject['labels'], options: Fields): Subject {
  return { kind: 'volume', name, labels, dangers: dangersOfVolume({ DriverOpts: options }), missing: `get ${name}: no such volume` };
}

/** The part of a ContainerCreate document that names other containers. */
export interface SharingDocument {
  readonly HostConfig?: {
    readonly NetworkMode?: string;
    readonly PidMode?: string;
    readonly IpcMode?: string;
    readonly VolumesFrom?: readonly string[];
    readonly Links?: readonly string[];
  };
}

/** The containers, by name or id, whose namespaces or volumes a new one shares, and those that it only has a link to. */
export function sharedBy({ HostConfig: host = {} }: SharingDocument): { joined: string[]; linked: string[] } {
  const modes = [host.NetworkMode, host.PidMode, host.IpcMode].filter((mode) => mode?.startsWith('container:') === true);
  const beforeColon = (text: string): string => text.split(':', 1)[0] ?? '';
  return {
    joined: [...modes.map((mode) => mode?.slice('container:'.length) ?? ''), ...(host.VolumesFrom ?? []).map(beforeColon)],
    linked: (host.Links ?? []).map(beforeColon),
  };
}

/** @throws NotFound for what is outside of the role's own; Forbidden for a new name that is. */
export function checkOwn(own: Limits | undefined, { kind, name, labels, isNew, isNobodys, missing }: Subject): void {
  if (own === undefined || isNobodys === true || isWithin(own, name, labels)) return;
  if (isNew !== true) throw new NotFound(missing);
  throw notWithin(own, `a ${kind}`);
}

/** @param what - with its article. */
export function notWithin(own: Limits, what: string): Forbidden {
  const allowed = [
    ...own.prefixes.map((prefix) => `a name that begins with ${prefix}`),
    ...own.labels.map((label) => `the label ${label}`),
  ];
  return new Forbidden(`access denied: ${what} of yours needs ${allowed.join(' or ')}`);
}

/** Whether an object is for the caller to see and to remove. */
export type IsOwn = (name: string, labels: Subject['labels']) => boolean;

/** What who asks now is held to; undefined: nothing holds him. Work that nobody asked for sees all. */
export function limitsOfCaller(policy: PolicySource | undefined, of: 'objects' | 'images'): Limits | undefined {
  const identity = currentRequest()?.identity;
  return identity === undefined ? undefined : policy?.current.roleOf(identity)?.[of];
}

/** For calls that go through all objects. */
export function ownedBy(policy: PolicySource | undefined): IsOwn {
  const own = limitsOfCaller(policy, 'objects');
  return (name, labels) => isWithin(own, name, labels);
}

/** Whether an object is within a role's own. */
export function isWithin(own: Limits | undefined, name: string, labels: Readonly<Record<string, string>> | null | undefined): boolean {
  if (own === undefined) return true;
  const plain = name.replace(/^\//, '');
  return (
    own.prefixes.some((prefix) => plain.startsWith(prefix)) ||
    own.labels.some((label) => {
      const at = label.indexOf('=');
      return labels?.[label.slice(0, at)] === label.slice(at + 1);
    })
  );
}
