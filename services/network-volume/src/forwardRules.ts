/**
 * The one exception to "never another's rule": where the host's own iptables drop what is forwarded (ufw, dockerd), an accept in our table
 * does not help, so one tagged jump lets through what belongs to our bridges. What may pass among them our own table still decides. Pure.
 */

/** How a stack knows its own rules among others': each stack of a network namespace has another tag, the name of its table. */
export const defaultTag = 'flotilla';

export function forwardChainOf(tag: string): string {
  return `${tag.toUpperCase()}-FORWARD`;
}

export interface ForwardPlan {
  /** For `iptables-restore --noflush`: all of it in one transaction. */
  readonly restore: string;
  /** The chain that holds the jump; undefined: none is needed. */
  readonly parent: string | undefined;
}

/**
 * @param listing - what `iptables -S` says of the filter table.
 * @returns undefined when everything is as it should be.
 */
export function forwardPlan(listing: string, bridges: readonly string[], tag: string = defaultTag): ForwardPlan | undefined {
  const forwardChain = forwardChainOf(tag);
  const lines = listing.split('\n').map((line) => line.trim());
  const parent = parentChain(lines);
  const jumps = lines.filter((line) => line.startsWith('-A ') && line.endsWith(`-j ${forwardChain}`));
  const present = lines.filter((line) => line.startsWith(`-A ${forwardChain} `));
  const wanted =
    parent === undefined ? [] : bridges.flatMap((bridge) => [rule(forwardChain, '-o', bridge), rule(forwardChain, '-i', bridge)]);
  const isFirst = parent !== undefined && lines.find((line) => line.startsWith(`-A ${parent} `)) === jump(parent, tag);
  const isRight =
    parent === undefined || bridges.length === 0
      ? !lines.includes(`-N ${forwardChain}`)
      : jumps.length === 1 && isFirst && sameLines(present, wanted);
  if (isRight) return undefined;
  const without = jumps.map((line) => line.replace(/^-A /, '-D '));
  const isNeeded = parent !== undefined && bridges.length > 0;
  const made = isNeeded ? [...wanted, jump(parent, tag).replace(/^-A (\S+)/, '-I $1 1')] : [`-X ${forwardChain}`];
  return {
    parent: isNeeded ? parent : undefined,
    restore: ['*filter', `:${forwardChain} - [0:0]`, ...without, ...made, 'COMMIT', ''].join('\n'),
  };
}

/** Where a jump is needed: the operator's chain of dockerd, else FORWARD when its policy drops, or a rule for all packets does. */
function parentChain(lines: readonly string[]): string | undefined {
  if (lines.includes('-N DOCKER-USER')) return 'DOCKER-USER';
  return lines.some((line) => /^-P FORWARD DROP$|^-A FORWARD -j (DROP|REJECT)\b/.test(line)) ? 'FORWARD' : undefined;
}

function rule(forwardChain: string, direction: '-i' | '-o', bridge: string): string {
  return `-A ${forwardChain} ${direction} ${bridge} -j ACCEPT`;
}

function jump(parent: string, tag: string): string {
  return `-A ${parent} -m comment --comment ${tag} -j ${forwardChainOf(tag)}`;
}

function sameLines(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((line, index) => line === other[index]);
}
