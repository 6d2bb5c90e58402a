/** Keeps the tagged jump of forwardRules.ts in the host's iptables, both families, where they are in use. */
import { execFile } from 'node:child_process';
import { type ForwardPlan, forwardPlan } from '../forwardRules.ts';

const commandTimeoutMs = 10_000;
const settleMs = 100;
const families = ['iptables', 'ip6tables'] as const;

export class ForwardJump {
  private readonly bridges = new Set<string>();
  private readonly parents = new Map<string, string>();
  private readonly onError: (error: unknown) => void;
  private work: Promise<void> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;

  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
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
    return [...new Set(this.parents.values())];
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
        const plan = forwardPlan(listing, bridges);
        if (plan !== undefined) await this.apply(tool, plan);
      } catch (error) {
        this.onError(error);
      }
    }
  }

  private async apply(tool: string, plan: ForwardPlan): Promise<void> {
    if ((await run(`${tool}-restore`, ['-w', '--noflush'], plan.restore)) === undefined)
      throw new Error(`${tool}-restore refused the jump`);
    if (plan.parent === undefined) this.parents.delete(tool);
    else this.parents.set(tool, plan.parent);
  }
}

/** @returns what it printed; undefined when it failed or is not there. */
function run(command: string, args: readonly string[], input = ''): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { timeout: commandTimeoutMs }, (error, stdout) => resolve(error === null ? stdout : undefined));
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
