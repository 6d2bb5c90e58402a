/**
 * What hosts share about overlay networks, in one key-value bucket of the NATS they share:
 *
 * ```
 * networks                      every network: names, VNIs and subnets are agreed on by compare-and-set of this one key
 * address.<network id>.<address>   who has it, where, and by which names: made with `create`, so that none is given twice.
 *                               Written `10-0-0-2` or `fd00__2`: keys hold no colons
 * host.<engine id>              a host's address on the underlay, written again and again while it lives
 * ```
 */
import { z } from 'zod';
import type { Cidr } from '../cidr.ts';

export interface SharedEntry {
  readonly value: string;
  readonly revision: number;
}

/** The bucket. Every call throws Unavailable while NATS cannot be reached. */
export interface SharedStore {
  get(key: string): Promise<SharedEntry | undefined>;
  keys(filter: string): Promise<string[]>;
  /** @throws Conflict when the key is there. */
  create(key: string, value: string): Promise<void>;
  /** @throws Conflict when it is another revision by now. */
  update(key: string, value: string, revision: number): Promise<void>;
  put(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
  /** What is there, then every change, for ever; `undefined` as value: deleted. Goes on after NATS was away. */
  watch(onChange: (key: string, value: string | undefined) => void): Promise<void>;
  readonly connected: boolean;
  onReconnect(work: () => void): void;
  /** Does this when NATS has lost the bucket, before `onChange` hears anything of the new one; again when it fails. */
  onLost(work: () => Promise<void>): void;
  close(): Promise<void>;
}

export const sharedNetwork = z.object({
  id: z.string(),
  name: z.string(),
  created: z.string(),
  vni: z.number().int(),
  subnets: z.array(
    z.object({
      subnet: z.string(),
      ipRange: z.string().optional(),
      gateway: z.string().optional(),
      auxiliary: z.record(z.string(), z.string()).optional(),
      configured: z.boolean(),
    }),
  ),
  internal: z.boolean(),
  attachable: z.boolean(),
  options: z.record(z.string(), z.string()),
  labels: z.record(z.string(), z.string()),
  /** Being removed: takes no new address. */
  leaving: z.boolean().optional(),
});
export type SharedNetwork = z.output<typeof sharedNetwork>;
export const sharedNetworks = z.array(sharedNetwork);

export const claim = z.object({
  engine: z.string(),
  /** The host's address on the underlay. */
  host: z.string(),
  containerId: z.string(),
  containerName: z.string(),
  mac: z.string(),
  names: z.array(z.string()),
  /** When it was made, milliseconds by its host's clock: one without an endpoint is only old when this is. */
  time: z.number(),
});
export type Claim = z.output<typeof claim>;

export const networksKey = 'networks';
export const hostBeat = z.object({ address: z.string() });

export function claimKey(networkId: string, address: string): string {
  return `address.${networkId}.${address.replaceAll('.', '-').replaceAll(':', '_')}`;
}

/** @returns undefined for another kind of key. */
export function parseClaimKey(key: string): { networkId: string; address: string } | undefined {
  const [, networkId, address] = /^address\.([0-9a-f]{64})\.([0-9a-f_-]+)$/.exec(key) ?? [];
  if (networkId === undefined || address === undefined) return undefined;
  return { networkId, address: address.replaceAll('-', '.').replaceAll('_', ':') };
}

export function hostKey(engineId: string): string {
  return `host.${engineId}`;
}

const firstVni = 4_096;

/** The lowest VNI that no network has. */
export function freeVni(networks: readonly SharedNetwork[]): number {
  const taken = new Set(networks.map(({ vni }) => vni));
  for (let vni = firstVni; ; vni += 1) if (!taken.has(vni)) return vni;
}

/** What the IPv4 of overlay networks is cut from: dockerd's own for swarms. */
export const overlayPool = { base: { family: 4, base: 10n << 24n, prefixLength: 8 } satisfies Cidr, size: 24 } as const;
