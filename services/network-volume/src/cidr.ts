/** IP addresses and blocks as numbers: parsing, containment, overlap, and back to text. Pure. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export type Family = 4 | 6;

/** A block of addresses; `base` has no host bits. */
export interface Cidr {
  readonly family: Family;
  readonly base: bigint;
  readonly prefixLength: number;
}

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

export function addressBits(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** @returns undefined when the text is no address. IPv4 must have four decimal parts; zones are refused. */
export function parseAddress(text: string): Address | undefined {
  const kind = isIP(text);
  if (kind === 0 || text.includes('%')) return undefined;
  const value = ipaddr
    .parse(text)
    .toByteArray()
    .reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return { family: kind === 4 ? 4 : 6, value };
}

export function addressText(family: Family, value: bigint): string {
  const bytes: number[] = [];
  for (let shift = addressBits(family) - 8; shift >= 0; shift -= 8) bytes.push(Number((value >> BigInt(shift)) & 0xffn));
  return ipaddr.fromByteArray(bytes).toString();
}

function hostMask(family: Family, prefixLength: number): bigint {
  return (1n << BigInt(addressBits(family) - prefixLength)) - 1n;
}

/** @returns undefined when the text is no CIDR. `address` is the text's own, host bits and all. */
export function parseCidrAddress(text: string): { cidr: Cidr; address: bigint } | undefined {
  const slash = text.indexOf('/');
  const address = slash === -1 ? undefined : parseAddress(text.slice(0, slash));
  const length = text.slice(slash + 1);
  if (address === undefined || !/^\d{1,3}$/.test(length)) return undefined;
  const prefixLength = Number(length);
  if (prefixLength > addressBits(address.family)) return undefined;
  return { cidr: cidrOf(address.family, address.value, prefixLength), address: address.value };
}

export function parseCidr(text: string): Cidr | undefined {
  return parseCidrAddress(text)?.cidr;
}

export function cidrOf(family: Family, address: bigint, prefixLength: number): Cidr {
  return { family, base: address & ~hostMask(family, prefixLength), prefixLength };
}

export function cidrText(cidr: Cidr): string {
  return `${addressText(cidr.family, cidr.base)}/${cidr.prefixLength}`;
}

/** The block's last address. */
export function lastAddress(cidr: Cidr): bigint {
  return cidr.base | hostMask(cidr.family, cidr.prefixLength);
}

export function contains(cidr: Cidr, family: Family, address: bigint): boolean {
  return cidr.family === family && address >= cidr.base && address <= lastAddress(cidr);
}

export function overlaps(one: Cidr, other: Cidr): boolean {
  return one.family === other.family && one.base <= lastAddress(other) && other.base <= lastAddress(one);
}
