/** Published ports: what a client's bindings mean, and finding host ports for them. Binding itself is the holder's (adapters/portHolder.ts). */

import { isIP } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { PortBinding } from '@flotilla/engine-api';
import { InvalidParameter, System } from '@flotilla/errors';
import { addressText, parseAddress } from './cidr.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** A port as it is published: `hostIp` is `0.0.0.0`, `::` or one address. */
export interface PublishedPort {
  readonly protocol: Protocol;
  readonly containerPort: number;
  readonly hostIp: string;
  /** 0: no port of the host leads to it, its network is routed. */
  readonly hostPort: number;
  /** Its network lets it be reached by the container's own address too. */
  readonly opened?: true;
}

/** What one binding asks for. */
export interface PortWish {
  readonly protocol: Protocol;
  readonly containerPort: number;
  /** Addresses that are to have the same host port. */
  readonly hostIps: readonly string[];
  /** First and last host port to try; undefined: any. */
  readonly range?: readonly [number, number];
}

/** `80/tcp`; the protocol may be left out. @throws InvalidParameter */
export function parsePort(text: string): { port: number; protocol: Protocol } {
  const [port = '', protocol = 'tcp', ...rest] = text.toLowerCase().split('/');
  if (rest.length > 0 || !/^\d{1,5}$/.test(port) || Number(port) > 65_535 || Number(port) === 0) {
    throw new InvalidParameter(`invalid port specification: "${text}"`);
  }
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') throw new InvalidParameter(`invalid proto: ${protocol}`);
  return { port: Number(port), protocol };
}

/** A host port or a range of them; empty or 0: any. @throws InvalidParameter */
export function parseHostPort(text: string): readonly [number, number] | undefined {
  if (text === '' || text === '0') return undefined;
  const parts = text.split('-').map((part) => (/^\d{1,5}$/.test(part) ? Number(part) : Number.NaN));
  const [first = Number.NaN, last = first] = parts;
  if (parts.length > 2 || !(first >= 1 && last <= 65_535 && first <= last)) {
    throw new InvalidParameter(`invalid port specification: "${text}"`);
  }
  return [first, last];
}

export interface PortDefaults {
  /** The engine's `--ip` or the network's host binding. */
  readonly hostIp: string;
  /** Whether `::` can be bound on this host. */
  readonly ipv6: boolean;
}

/**
 * What is to be published, in a fixed order.
 *
 * @param exposed - ports the container says it listens on; with `publishAll` each of them gets a host port.
 * @throws InvalidParameter
 */
export function portWishes(
  bindings: Readonly<Record<string, readonly PortBinding[] | null>>,
  exposed: readonly string[],
  publishAll: boolean,
  defaults: PortDefaults,
): PortWish[] {
  const all = new Map<string, { port: number; protocol: Protocol; bindings: readonly PortBinding[] }>();
  const note = (text: string, found: readonly PortBinding[]): void => {
    const { port, protocol } = parsePort(text);
    const key = `${port}/${protocol}`;
    all.set(key, { port, protocol, bindings: [...(all.get(key)?.bindings ?? []), ...found] });
  };
  for (const [text, found] of Object.entries(bindings)) note(text, found ?? []);
  if (publishAll) for (const text of exposed) note(text, []);
  const wishes: PortWish[] = [];
  for (const { port, protocol, bindings: found } of all.values()) {
    const effective = found.length === 0 && publishAll ? [{}] : found;
    for (const binding of effective) {
      const range = parseHostPort(binding.HostPort ?? '');
      wishes.push({
        protocol,
        containerPort: port,
        hostIps: hostAddresses(binding.HostIp ?? '', defaults),
        ...(range === undefined ? {} : { range }),
      });
    }
  }
  // Fixed host ports first: a random one must not take what a later binding names.
  return wishes.sort((a, b) => Number(a.range === undefined) - Number(b.range === undefined) || a.containerPort - b.containerPort);
}

function hostAddresses(text: string, defaults: PortDefaults): string[] {
  if (text === '') return defaults.hostIp === '0.0.0.0' && defaults.ipv6 ? ['0.0.0.0', '::'] : [defaults.hostIp];
  const address = isIP(text) === 0 ? undefined : parseAddress(text);
  if (address === undefined) throw new InvalidParameter(`invalid IP address: ${text}`);
  return [addressText(address.family, address.value)];
}

/** Divides wishes by their addresses' families: on a network that is routed, ports are opened, and none of the host is taken. */
export function splitRouted(
  wishes: readonly PortWish[],
  isRouted: (family: 4 | 6) => boolean,
): { direct: PublishedPort[]; wishes: PortWish[] } {
  const familyOf = (hostIp: string): 4 | 6 => (hostIp.includes(':') ? 6 : 4);
  const direct = wishes.flatMap(({ protocol, containerPort, hostIps }) =>
    hostIps
      .filter((hostIp) => isRouted(familyOf(hostIp)))
      .map((hostIp) => ({
        protocol,
        containerPort,
        hostIp: familyOf(hostIp) === 4 ? '0.0.0.0' : '::',
        hostPort: 0,
        opened: true as const,
      })),
  );
  const rest = wishes.map((wish) => ({ ...wish, hostIps: wish.hostIps.filter((hostIp) => !isRouted(familyOf(hostIp))) }));
  return { direct, wishes: rest.filter(({ hostIps }) => hostIps.length > 0) };
}

/** Why a host port cannot be had. */
export type PortRefusal = 'ours' | 'in-use' | 'no-such-address' | 'unsupported' | 'no-descriptors';

export interface PortHolder {
  /** Takes a host port so that nobody else can, or says why not. */
  hold(port: PublishedPort, target: PortTarget): PortRefusal | undefined;
  release(port: PublishedPort): void;
  /** How many more can be held. */
  room(): number;
}

/** The container's addresses, for what must be relayed. */
export interface PortTarget {
  readonly ipv4?: string;
  readonly ipv6?: string;
}

/** Somebody outside of the records has the port: a process of the host, or another instance of ours that has not let go of it yet. */
export class HostPortInUse extends System {}

const dynamicRange = [32_768, 60_999] as const;
/** Some tens of milliseconds: whoever publishes tens of thousands holds up nobody else. */
export const portsATurn = 500;

/** Host ports given out one after the other, as dockerd does, so that a freed one is not at once another's. */
export class PortAllocator {
  private readonly holder: PortHolder;
  private readonly isPublished: (port: PublishedPort) => boolean;
  private readonly isLed: boolean;
  private next: number = dynamicRange[0];

  /**
   * @param isPublished - whether a container has it by the records: then another instance holds it.
   * @param isLed - whether the packet filter leads ports to containers: without it a port would be open and answer nobody.
   */
  constructor(holder: PortHolder, isPublished: (port: PublishedPort) => boolean, isLed = true) {
    this.holder = holder;
    this.isLed = isLed;
    this.isPublished = isPublished;
  }

  /**
   * Holds a host port for every wish, or for none.
   *
   * @param endpoint - the container's name and endpoint id, for the message.
   * @throws System in dockerd's words; HostPortInUse.
   */
  async allocate(wishes: readonly PortWish[], target: PortTarget, endpoint: { name: string; id: string }): Promise<PublishedPort[]> {
    const held: PublishedPort[] = [];
    try {
      if (!this.isLed && wishes.length > 0) throw new Error('ports cannot be published with --iptables=false');
      // Said before any is bound, and not by the last that a range needs.
      const wanted = wishes.reduce((sum, { hostIps }) => sum + hostIps.length, 0);
      if (wanted > this.holder.room()) throw new Error(`failed to bind ${wanted} host ports: too many open files`);
      for (const [index, wish] of wishes.entries()) {
        held.push(...this.allocateOne(wish, target));
        if (index % portsATurn === portsATurn - 1) await setImmediate();
      }
      return held;
    } catch (error) {
      for (const port of held) this.holder.release(port);
      const reason = error instanceof Error ? error.message : String(error);
      const Failure = error instanceof HostPortInUse ? HostPortInUse : System;
      throw new Failure(`driver failed programming external connectivity on endpoint ${endpoint.name} (${endpoint.id}): ${reason}`, {
        cause: error,
      });
    }
  }

  private allocateOne(wish: PortWish, target: PortTarget): PublishedPort[] {
    let refusal: Error | undefined;
    for (const hostPort of this.candidates(wish)) {
      const result = this.tryAll(wish, hostPort, target);
      if (!(result instanceof Error)) return result;
      refusal = result;
    }
    throw refusal ?? new Error('all ports are allocated');
  }

  private *candidates(wish: PortWish): Generator<number> {
    if (wish.range !== undefined) {
      for (let port = wish.range[0]; port <= wish.range[1]; port += 1) yield port;
      return;
    }
    const [first, last] = dynamicRange;
    for (let tries = first; tries <= last; tries += 1) {
      const port = this.next;
      this.next = port === last ? first : port + 1;
      yield port;
    }
  }

  private tryAll(wish: PortWish, hostPort: number, target: PortTarget): PublishedPort[] | Error {
    const held: PublishedPort[] = [];
    for (const hostIp of wish.hostIps) {
      const port = { protocol: wish.protocol, containerPort: wish.containerPort, hostIp, hostPort };
      const refusal = this.holder.hold(port, target);
      if (refusal === undefined) {
        held.push(port);
        continue;
      }
      for (const other of held) this.holder.release(other);
      if (refusal !== 'in-use') return new Error(refusalText(refusal, port));
      return this.isPublished(port) ? new Error(refusalText('ours', port)) : new HostPortInUse(refusalText(refusal, port));
    }
    return held;
  }
}

function refusalText(refusal: PortRefusal, port: PublishedPort): string {
  const address = `${port.hostIp.includes(':') ? `[${port.hostIp}]` : port.hostIp}:${port.hostPort}`;
  switch (refusal) {
    case 'ours':
      return `Bind for ${address} failed: port is already allocated`;
    case 'in-use':
      return `failed to bind host port for ${address}/${port.protocol}: address already in use`;
    case 'no-such-address':
      return `failed to bind host port for ${address}/${port.protocol}: cannot assign requested address`;
    case 'unsupported':
      return `failed to bind host port for ${address}/${port.protocol}: protocol not supported`;
    case 'no-descriptors':
      return `failed to bind host port for ${address}/${port.protocol}: too many open files`;
  }
}

/** NetworkSettings.Ports: published ones with their bindings, those only exposed with null. */
export function portMapOf(
  published: readonly PublishedPort[],
  exposed: readonly string[],
): Record<string, { HostIp: string; HostPort: string }[] | null> {
  const map: Record<string, { HostIp: string; HostPort: string }[] | null> = {};
  for (const text of exposed) map[canonicalPort(text)] = null;
  for (const { protocol, containerPort, hostIp, hostPort } of published) {
    const key = `${containerPort}/${protocol}`;
    map[key] = [...(map[key] ?? []), { HostIp: hostIp, HostPort: hostPort === 0 ? '' : String(hostPort) }];
  }
  return map;
}

function canonicalPort(text: string): string {
  return text.includes('/') ? text : `${text}/tcp`;
}
