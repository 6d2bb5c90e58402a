/** Keeps the tagged jump of forwardRules.ts and nftForwardRules.ts in the host's own firewall: iptables of both families where they are in use, and nftables. */
import { execFile } from 'node:child_process';
import { defaultTag, type ForwardPlan, forwardChainOf, forwardPlan } from '../forwardRules.ts';
import { dropsBridged, type ForeignChain, type ForeignTable, type ListedRule, nftForwardCommands } from '../nftForwardRules.ts';
import { Nftables } from './nftables.ts';

const commandTimeoutMs = 10_000;
const settleMs = 100;
const families = ['iptables', 'ip6tables'] as const;
const nftFamilies: ReadonlySet<string> = new Set(['ip', 'ip6', 'inet']);
/** What stands in commands: names that nft can read back. */
const nftName = /^[a-zA-Z][\w./-]*$/;

export class ForwardJump {
  private readonly bridges = new Set<string>();
  private readonly parents = new Map<string, string>();
  private nftParents: readonly string[] = [];
  private readonly onError: (error: unknown) => void;
  private readonly tag: string;
  private work: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;

  /** @param tag - the name of the stack's own table. */
  constructor(onError: (error: unknown) => void, tag: string = defaultTag) {
    this.onError = onError;
    this.tag = tag;
  }

  addBridge(name: string): void {
    if (this.bridges.has(name)) return;
    this.bridges.add(name);
    this.check();
  }

  removeBridge(name: string): void {
    if (this.bridges.delete(name)) this.check();
  }

  /** Looks a moment later, once for everything that happens until then. */
  check(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.work = this.work.then(() => this.ensure([...this.bridges]));
    }, settleMs).unref();
  }

  /** Chains of the host that hold our jump, for `docker info`. */
  placedIn(): string[] {
    return [...new Set([...this.parents.values(), ...this.nftParents])];
  }

  /** Takes the jump away; the rules of the host are then as if we had never been there. */
  async remove(): Promise<void> {
    clearTimeout(this.timer);
    await this.work;
    await this.ensure([]);
  }

  private async ensure(bridges: readonly string[]): Promise<void> {
    for (const tool of families) {
      try {
        const listing = await run(tool, ['-w', '-S']);
        // Not installed, or the kernel has no such table: then nothing of it can drop.
        if (listing === undefined) continue;
        const plan = forwardPlan(listing, bridges, this.tag);
        if (plan !== undefined) await this.apply(tool, plan);
      } catch (error) {
        this.onError(error);
      }
    }
    try {
      this.ensureNft(bridges);
    } catch (error) {
      this.onError(error);
    }
  }

  /** Firewalls that are written in nftables. Those of iptables that are kept in nftables are above. */
  private ensureNft(bridges: readonly string[]): void {
    using nft = new Nftables();
    const there: string[] = [];
    for (const found of foreignTables(nft, this.tag)) {
      const commands = nftForwardCommands(found, bridges, this.tag);
      if (commands.length > 0) nft.run(`${commands.join('\n')}\n`);
      const dropping = found.chains.filter((chain) => dropsBridged(chain, bridges));
      there.push(...dropping.map(({ name }) => `${found.family} ${found.table} ${name}`));
    }
    this.nftParents = there;
  }

  private async apply(tool: string, plan: ForwardPlan): Promise<void> {
    if ((await run(`${tool}-restore`, ['-w', '--noflush'], plan.restore)) === undefined)
      throw new Error(`${tool}-restore refused the jump`);
    if (plan.parent === undefined) this.parents.delete(tool);
    else this.parents.set(tool, plan.parent);
  }
}

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

/** Tables of others with base chains that see forwarded packets, but for what is iptables' own. */
function foreignTables(nft: Nftables, tag: string): ForeignTable[] {
  const forwardChain = forwardChainOf(tag);
  const chains = (nft.list('chains')?.nftables ?? []).flatMap(({ chain }) => (chain === undefined ? [] : [chain as ListedChain]));
  const tables = new Map<string, { family: string; table: string; chains: ForeignChain[] }>();
  for (const { family, table, name, hook, policy = 'accept' } of chains) {
    const isOfIptables = family !== 'inet' && name === 'FORWARD';
    if (hook !== 'forward' || isOfIptables || table === tag || !nftFamilies.has(family)) continue;
    if (!nftName.test(table) || !nftName.test(name)) continue;
    const found = tables.get(`${family} ${table}`) ?? { family, table, chains: [] };
    tables.set(`${family} ${table}`, found);
    found.chains.push({ name, policy, rules: rulesOf(nft, `${family} ${table} ${name}`) });
  }
  return [...tables].map(([place, found]) => {
    const hasOurs = chains.some(({ family, table, name }) => name === forwardChain && `${family} ${table}` === place);
    return { ...found, ours: hasOurs ? rulesOf(nft, `${place} ${forwardChain}`) : undefined };
  });
}

function rulesOf(nft: Nftables, chain: string): ListedRule[] {
  return (nft.list(`chain ${chain}`)?.nftables ?? []).flatMap(({ rule }) => (rule === undefined ? [] : [rule as ListedRule]));
}

/** @returns what it printed; undefined when it failed or is not there. */
function run(command: string, args: readonly string[], input = ''): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { timeout: commandTimeoutMs }, (error, stdout) => resolve(error === null ? stdout : undefined));
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
