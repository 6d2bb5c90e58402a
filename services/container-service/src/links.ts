/**
 * Legacy links (`--link`): a container on the default bridge knows others by an alias, in its hosts file, by variables in its environment, and as a
 * second name of theirs (`/parent/alias`). A record keeps them as `<id>:<alias>`, so that they follow a rename.
 */
import type { HostConfig } from '@flotilla/engine-api';
import { Conflict, errorMessage, InvalidParameter, isNotFound } from '@flotilla/errors';
import { type ContainerRecord, sharedContainer } from './container.ts';

interface Link {
  /** a container's id, as a record keeps it; its name or id, as a client gives it */
  readonly target: string;
  readonly alias: string;
}

/** `container[:alias]`, the alias also as a path. @throws InvalidParameter */
function parseLink(link: string): Link {
  if (link === '') throw new InvalidParameter('empty string specified for links');
  const [target = '', alias, ...more] = link.split(':');
  if (more.length > 0) throw new InvalidParameter(`bad format for links: ${link}`);
  const name = target.replace(/^\//, '');
  return { target: name, alias: alias?.split('/').pop() || name };
}

/** Links as the record keeps them. On a network of one's own the endpoints have them, not the host configuration; with a shared one they are refused later. */
export function resolvedLinks(hostConfig: HostConfig, find: (reference: string) => ContainerRecord): string[] {
  const { NetworkMode: mode = '', Links: links = [] } = hostConfig;
  if (mode === 'host' || mode.startsWith('container:')) return links;
  if (!['', 'default', 'bridge', 'none'].includes(mode)) return [];
  return links.map((link) => {
    const { target, alias } = parseLink(link);
    try {
      return `${networkOwner(find(target), find).id}:${alias}`;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      throw new InvalidParameter(`could not get container for ${target}: ${errorMessage(error)}`, { cause: error });
    }
  });
}

/** Whose network stack a container has. */
function networkOwner(container: ContainerRecord, find: (reference: string) => ContainerRecord): ContainerRecord {
  const { NetworkMode: mode } = container.hostConfig;
  const shared = sharedContainer(mode);
  if (shared !== undefined) return networkOwner(find(shared), find);
  if (mode === 'host') {
    throw new InvalidParameter(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
  }
  return container;
}

export interface LinkTarget {
  readonly container: ContainerRecord;
  readonly alias: string;
}

/** The containers that a container is linked to; one that was removed is linked to no more. */
export function linkTargets(
  { hostConfig }: Pick<ContainerRecord, 'hostConfig'>,
  get: (id: string) => ContainerRecord | undefined,
): LinkTarget[] {
  return (hostConfig.Links ?? []).flatMap((link) => {
    const { target, alias } = parseLink(link);
    const container = get(target);
    return container === undefined ? [] : [{ container, alias }];
  });
}

/** HostConfig.Links as inspect shows them. */
export function shownLinks(parentName: string, targets: readonly LinkTarget[]): string[] | null {
  return targets.length === 0 ? null : targets.map(({ container, alias }) => `/${container.name}:/${parentName}/${alias}`);
}

/** What is left of a container's links without one. */
export function withoutLink({ hostConfig }: ContainerRecord, alias: string): string[] {
  return (hostConfig.Links ?? []).filter((link) => parseLink(link).alias !== alias);
}

/** The variables that links bring into a container. @throws Conflict when a target does not run or is not on the default bridge. */
export function linkEnvironment(parentName: string, targets: readonly LinkTarget[]): string[] {
  return targets.flatMap(({ container, alias }) => {
    const name = `/${parentName}/${alias}`;
    if (container.state.run === undefined) {
      throw new Conflict(`Cannot link to a non running container: /${container.name} AS ${name}`);
    }
    const address = container.networkSettings?.Networks.bridge?.IPAddress;
    if (!address) throw new Conflict(`container ${container.id} not attached to default bridge network`);
    return variablesOf(container, name, alias.toUpperCase().replaceAll('-', '_'), address);
  });
}

/** The same for an exec: what was linked to and runs no more is left out. */
export function runningLinkEnvironment(parentName: string, targets: readonly LinkTarget[]): string[] {
  const running = targets.filter(
    ({ container: { state, networkSettings } }) => state.run !== undefined && networkSettings?.Networks.bridge?.IPAddress,
  );
  return linkEnvironment(parentName, running);
}

function variablesOf({ config }: ContainerRecord, name: string, prefix: string, address: string): string[] {
  const ports = Object.keys(config.ExposedPorts ?? {}).map(portOf);
  ports.sort((a, b) => a.number - b.number || a.protocol.localeCompare(b.protocol));
  const [first] = ports;
  const variables = first === undefined ? [] : [`${prefix}_PORT=${first.protocol}://${address}:${first.number}`];
  for (const { number, protocol } of ports) {
    const port = `${prefix}_PORT_${number}_${protocol.toUpperCase()}`;
    variables.push(
      `${port}=${protocol}://${address}:${number}`,
      `${port}_ADDR=${address}`,
      `${port}_PORT=${number}`,
      `${port}_PROTO=${protocol}`,
    );
  }
  variables.push(`${prefix}_NAME=${name}`);
  for (const variable of config.Env ?? []) {
    const [key = '', ...value] = variable.split('=');
    if (key !== 'HOME' && key !== 'PATH') variables.push(`${prefix}_ENV_${key}=${value.join('=')}`);
  }
  return variables;
}

function portOf(exposed: string): { number: number; protocol: string } {
  const [number = '', protocol = 'tcp'] = exposed.split('/');
  return { number: Number.parseInt(number, 10), protocol };
}
