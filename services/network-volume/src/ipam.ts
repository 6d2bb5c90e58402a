/** The IPAM part of NetworkCreate: checked with dockerd's rules and words, made into subnet records. */
import type { IPAM, IPAMConfig } from '@flotilla/engine-api';
import { Forbidden, InvalidParameter } from '@flotilla/errors';
import { defaultGateway } from './addressAllocator.ts';
import { type AddressPool, freeSubnet } from './addressPools.ts';
import { addressText, type Cidr, cidrText, contains, type Family, overlaps, parseAddress, parseCidr, parseCidrAddress } from './cidr.ts';
import type { SubnetRecord } from './network.ts';

/** @throws InvalidParameter that names every mistake. */
export function checkIpam(ipam: IPAM | undefined, enableIPv6: boolean): void {
  const mistakes = (ipam?.Config ?? []).flatMap((config) => configMistakes(config, enableIPv6));
  if (mistakes.length > 0) throw new InvalidParameter(`invalid network config:\n${joinMistakes(mistakes)}`);
}

/** Several mistakes in one message, as dockerd writes them. */
export function joinMistakes(mistakes: readonly string[]): string {
  if (mistakes.length === 1) return mistakes[0] ?? '';
  return mistakes.map((mistake) => `* ${mistake.replaceAll('\n', '\n\t')}`).join('\n');
}

function configMistakes(config: IPAMConfig, enableIPv6: boolean): string[] {
  const text = config.Subnet ?? '';
  const subnet = parseCidrAddress(text);
  if (subnet === undefined) return [`invalid subnet ${text}: invalid CIDR block notation`];
  if (subnet.cidr.family === 6 && !enableIPv6) return [];
  const mistakes: string[] = [];
  if (subnet.address !== subnet.cidr.base) mistakes.push(`invalid subnet ${text}: it should be ${cidrText(subnet.cidr)}`);
  mistakes.push(...rangeMistakes(config.IPRange ?? '', subnet.cidr));
  const gateway = addressMistake(config.Gateway ?? '', subnet.cidr);
  if (gateway !== undefined) mistakes.push(`invalid gateway ${config.Gateway}: ${gateway}`);
  for (const [name, address] of Object.entries(config.AuxiliaryAddresses ?? {})) {
    const mistake = addressMistake(address, subnet.cidr);
    if (mistake !== undefined) mistakes.push(`invalid auxiliary address ${name}: ${mistake}`);
  }
  return mistakes;
}

function rangeMistakes(text: string, subnet: Cidr): string[] {
  if (text === '') return [];
  const range = parseCidrAddress(text);
  if (range === undefined) return [`invalid ip-range ${text}: invalid CIDR block notation`];
  if (range.cidr.family !== subnet.family) return [`invalid ip-range ${text}: parent subnet is an IPv${subnet.family} block`];
  const mistakes: string[] = [];
  if (range.cidr.prefixLength < subnet.prefixLength) {
    mistakes.push(`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${cidrText(subnet)}`);
  }
  if (range.address !== range.cidr.base) mistakes.push(`invalid ip-range ${text}: it should be ${cidrText(range.cidr)}`);
  if (!overlaps(subnet, range.cidr)) mistakes.push(`invalid ip-range ${text}: parent subnet ${cidrText(subnet)} doesn't contain ip-range`);
  return mistakes;
}

function addressMistake(text: string, subnet: Cidr): string | undefined {
  if (text === '') return undefined;
  const address = parseAddress(text);
  if (address === undefined) return 'invalid address';
  if (address.family !== subnet.family) return `parent subnet is an IPv${subnet.family} block`;
  if (!contains(subnet, address.family, address.value)) return `parent subnet ${cidrText(subnet)} doesn't contain this address`;
  return undefined;
}

export interface SubnetChoice {
  readonly ipam: IPAM | undefined;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  /** Internal networks have no gateway for containers, but the bridge still has an address. */
  readonly pools: readonly AddressPool[];
  /** Subnets of our other networks: overlap is refused. */
  readonly ours: readonly Cidr[];
  /** Whether a gateway is chosen where the client names none. */
  readonly gateways: (family: Family) => 'chosen' | 'named';
  /** What the host has routes to: only avoided when we choose. */
  readonly routes: readonly Cidr[];
}

export function poolOverlaps(): Forbidden {
  return new Forbidden('invalid pool request: Pool overlaps with other one on this address space');
}

/** @throws Forbidden for overlap with another network, InvalidParameter when nothing is left, both in dockerd's words. */
export function chooseSubnets(choice: SubnetChoice): SubnetRecord[] {
  const given = (choice.ipam?.Config ?? []).flatMap((config) => {
    const cidr = parseCidr(config.Subnet ?? '');
    return cidr === undefined || (cidr.family === 6 ? !choice.enableIPv6 : !choice.enableIPv4) ? [] : [{ config, cidr }];
  });
  const seen: Cidr[] = [...choice.ours];
  for (const { cidr } of given) {
    if (seen.some((other) => overlaps(cidr, other))) {
      throw poolOverlaps();
    }
    seen.push(cidr);
  }
  const wanted: { config: IPAMConfig; cidr: Cidr }[] = [...given];
  for (const family of [4, 6] as const satisfies readonly Family[]) {
    const enabled = family === 4 ? choice.enableIPv4 : choice.enableIPv6;
    if (!enabled || given.some(({ cidr }) => cidr.family === family)) continue;
    wanted.push({ config: {}, cidr: freeSubnet(choice.pools, family, [...seen, ...choice.routes]) });
  }
  return wanted
    .sort((a, b) => a.cidr.family - b.cidr.family)
    .map(({ config, cidr }) => subnetRecord(config, cidr, choice.gateways(cidr.family)));
}

/** Subnets as the client wrote them: those of a configuration-only network, for others to take, and those of a family that is off. */
export function writtenSubnets(ipam: IPAM | undefined, families: readonly Family[] = [4, 6]): SubnetRecord[] {
  return (ipam?.Config ?? []).flatMap((config) => {
    const cidr = parseCidr(config.Subnet ?? '');
    return cidr === undefined || !families.includes(cidr.family) ? [] : [subnetRecord(config, cidr, 'named')];
  });
}

function subnetRecord(config: IPAMConfig, cidr: Cidr, gateways: ReturnType<SubnetChoice['gateways']>): SubnetRecord {
  const range = config.IPRange === undefined || config.IPRange === '' ? undefined : parseCidr(config.IPRange);
  const auxiliary = config.AuxiliaryAddresses ?? {};
  const reserved = Object.values(auxiliary).flatMap((text) => parseAddress(text)?.value ?? []);
  const chosen = gateways === 'chosen' ? addressText(cidr.family, defaultGateway(cidr, range, reserved)) : '';
  const gateway = config.Gateway || chosen;
  return {
    subnet: cidrText(cidr),
    ...(range === undefined ? {} : { ipRange: cidrText(range) }),
    ...(gateway === '' ? {} : { gateway }),
    configured: (config.Subnet ?? '') !== '',
    ...(Object.keys(auxiliary).length === 0 ? {} : { auxiliary }),
  };
}
