/**
 * The jump of forwardRules.ts for hosts whose own firewall is written in nftables: each base chain that drops what is forwarded gets one tagged jump at its head, to a
 * chain of ours in its table that lets our bridges through. Pure; `adapters/forwardJump.ts` lists and applies.
 */
import { defaultTag, forwardChainOf } from './forwardRules.ts';

/** A rule as `nft -j` lists it. */
export interface ListedRule {
  readonly handle: number;
  readonly comment?: string;
  readonly expr: readonly Readonly<Record<string, unknown>>[];
}

/** A base chain that sees forwarded packets. */
export interface ForeignChain {
  readonly name: string;
  readonly policy: string;
  readonly rules: readonly ListedRule[];
}

/** A table of somebody else's. */
export interface ForeignTable {
  readonly family: string;
  readonly table: string;
  readonly chains: readonly ForeignChain[];
  /** Of our chain in it; undefined where there is none. */
  readonly ours: readonly ListedRule[] | undefined;
}

/** @returns commands for one transaction; none when everything is as it should be. */
export function nftForwardCommands(
  { family, table, chains, ours }: ForeignTable,
  bridges: readonly string[],
  tag: string = defaultTag,
): string[] {
  const forwardChain = forwardChainOf(tag);
  const place = `${family} ${table}`;
  const dropping = chains.filter((chain) => dropsBridged(chain, bridges));
  const wanted = dropping.length === 0 ? undefined : bridges.flatMap((bridge) => [`iifname "${bridge}"`, `oifname "${bridge}"`]);
  const isRight =
    chains.every((chain) => hasJumpAsItShould(chain, dropping.includes(chain), tag)) && String(ours?.map(matchOf)) === String(wanted);
  if (isRight) return [];
  const deletions = chains.flatMap(({ name, rules }) =>
    rules.filter(({ comment }) => comment === tag).map(({ handle }) => `delete rule ${place} ${name} handle ${handle}`),
  );
  if (wanted === undefined) {
    const chain = ours === undefined ? [] : [`flush chain ${place} ${forwardChain}`, `delete chain ${place} ${forwardChain}`];
    return [...deletions, ...chain];
  }
  return [
    `add chain ${place} ${forwardChain}`,
    `flush chain ${place} ${forwardChain}`,
    ...wanted.map((match) => `add rule ${place} ${forwardChain} ${match} accept`),
    ...deletions,
    ...dropping.map(({ name }) => `insert rule ${place} ${name} jump ${forwardChain} comment "${tag}"`),
  ];
}

/** Whether it holds our jump when the commands have been run: it drops, by its policy or by a last rule for all packets. */
export function dropsBridged({ policy, rules }: ForeignChain, bridges: readonly string[]): boolean {
  if (bridges.length === 0) return false;
  const last = rules.at(-1)?.expr.filter((part) => !('counter' in part) && !('log' in part)) ?? [];
  return policy === 'drop' || (last.length === 1 && last.every((part) => 'drop' in part || 'reject' in part));
}

function hasJumpAsItShould({ rules }: ForeignChain, isWanted: boolean, tag: string): boolean {
  const jumps = rules.filter(({ comment }) => comment === tag);
  return isWanted ? jumps.length === 1 && rules[0]?.comment === tag : jumps.length === 0;
}

function matchOf({ expr }: ListedRule): string {
  const { match } = (expr[0] ?? {}) as { match?: { left?: { meta?: { key?: string } }; right?: unknown } };
  return `${match?.left?.meta?.key} "${match?.right}"`;
}
