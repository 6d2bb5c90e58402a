/** Addresses as plugins name them: with their prefix length. What they say goes into the kernel and the packet filter, and is checked here. Pure. */
import { System } from '@flotilla/errors';
import { addressText, type Family, parseCidrAddress } from './cidr.ts';

/** @throws System in dockerd's words for what is no address with a length, or one of another family. */
export function pluginAddress(text: string, family: Family): { address: string; prefixLength: number } {
  const parsed = parseCidrAddress(text);
  if (parsed === undefined || parsed.cidr.family !== family) throw new System(`invalid CIDR address: ${text}`);
  return { address: addressText(family, parsed.address), prefixLength: parsed.cidr.prefixLength };
}

export function withoutLength(address: string): string {
  return address.split('/')[0] ?? '';
}
