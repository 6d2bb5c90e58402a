/** What is done to a stack: processes killed or stopped, links cut; and how long it takes until it is whole again. */
import { setTimeout as pause } from 'node:timers/promises';
import { type Random, type TestHost, waitFor } from '@flotilla/testkit';
import { engineApi } from '../engineApi.ts';
import type { Harm, Journal } from './journal.ts';
import { cutConnections } from './links.ts';

const services = ['gateway', 'container-service', 'image-service', 'network-volume', 'registry-proxy'] as const;
const engines = ['redis', 'nats'] as const;

export class Harms {
  private readonly host: TestHost;
  private readonly journal: Journal;
  private readonly random: Random;
  private readonly image: string;
  /** Bytes of the stack's own traffic are never looked at; only this port of its bus is cut off. */
  private readonly natsPort: number;

  constructor(options: { host: TestHost; journal: Journal; random: Random; image: string; natsPort: number }) {
    this.host = options.host;
    this.journal = options.journal;
    this.random = options.random;
    this.image = options.image;
    this.natsPort = options.natsPort;
  }

  /** One harm, chosen by chance; resolves when everything answers and every replica is healthy again. */
  async one(): Promise<Harm> {
    const any = this.random.pick([...services, ...engines]);
    const kind = this.random.below(12);
    if (kind < 5) await this.kill(this.random.pick(services));
    else if (kind === 5) await this.kill(this.random.pick(engines));
    else if (kind < 8) await this.stop(any, 300 + this.random.below(1700));
    else if (kind === 8) await this.freeze(any);
    else if (kind === 9) await this.cutLinks(any);
    else if (kind === 10) await this.cutBus(300 + this.random.below(5700));
    else await this.killSupervisor();
    await this.untilEveryReplicaIsHealthy();
    await pause(100 + this.random.below(900));
    const harm = this.journal.harms.at(-1);
    if (harm === undefined) throw new Error('nothing was done');
    return harm;
  }

  private async kill(service: string): Promise<void> {
    const pid = await this.chosen(service);
    this.journal.begin(`kill ${service}`);
    this.journal.killed.add(pid);
    process.kill(pid, 'SIGKILL');
    await this.recovery(performance.now());
  }

  private async stop(service: string, forMs: number): Promise<void> {
    const pid = await this.chosen(service);
    this.journal.begin(`stop ${service}`);
    process.kill(pid, 'SIGSTOP');
    await pause(forMs);
    process.kill(pid, 'SIGCONT');
    await this.recovery(performance.now());
  }

  /** Stopped for good, as far as whoever does it cares. */
  private async freeze(service: string): Promise<void> {
    const pid = await this.chosen(service);
    this.journal.begin(`stop ${service} for good`);
    process.kill(pid, 'SIGSTOP');
    await this.recovery(performance.now());
  }

  /** Every connection to others, but for those of docker clients. */
  private async cutLinks(service: string): Promise<void> {
    const pid = await this.chosen(service);
    this.journal.begin(`cut links of ${service}`);
    cutConnections(pid, this.host.socketPath);
    await this.recovery(performance.now());
  }

  private async cutBus(forMs: number): Promise<void> {
    this.journal.begin('cut bus');
    const table = 'inet chaos';
    await this.host.sh(
      `nft 'add table ${table}; add chain ${table} in { type filter hook input priority -300; }; add rule ${table} in tcp dport ${this.natsPort} drop; add rule ${table} in tcp sport ${this.natsPort} drop'`,
    );
    await pause(forMs);
    await this.host.sh(`nft delete table ${table}`);
    await this.recovery(performance.now());
  }

  /** Services go on without it; it has to be back before one of them dies. */
  private async killSupervisor(): Promise<void> {
    this.journal.begin('kill supervisor');
    await this.host.killSupervisor();
    await this.host.startStack();
    await this.recovery(performance.now());
  }

  private async chosen(service: string): Promise<number> {
    const pids = (await this.host.processes()).filter((one) => one.service === service).map((one) => one.pid);
    const [first, ...others] = pids;
    if (first === undefined) throw new Error(`no process of ${service} is running`);
    return this.random.pick([first, ...others]);
  }

  /** Until a round of questions and a change that needs every service succeed. */
  private async recovery(sinceMs: number): Promise<void> {
    const ask = async (method: string, path: string, wanted: number, body?: unknown): Promise<string> => {
      const answer = await engineApi(this.host, method, `/v1.50${path}`, { timeoutMs: 40_000, ...(body === undefined ? {} : { body }) });
      if (answer.status !== wanted) throw new Error(`${method} ${path}: ${answer.status} ${answer.message}`);
      return answer.text;
    };
    let made = '';
    await waitFor(
      async () => {
        await Promise.all(
          ['/containers/json?all=1', '/images/json', '/networks', '/volumes', '/info'].map((path) => ask('GET', path, 200)),
        );
        made = (JSON.parse(await ask('POST', '/containers/create', 201, { Image: this.image, Cmd: ['true'] })) as { Id: string }).Id;
        return true;
      },
      { timeoutMs: 60_000, intervalMs: 20, what: 'the stack to answer' },
    );
    this.journal.recovered(sinceMs);
    await waitFor(() => ask('DELETE', `/containers/${made}`, 204).then(() => true), { timeoutMs: 30_000, what: 'a removal' });
  }

  private async untilEveryReplicaIsHealthy(): Promise<void> {
    await waitFor(
      async () => {
        const processes = await this.host.processes();
        return (
          processes.every((one) => one.healthy) && [...services, ...engines].every((name) => processes.some((one) => one.service === name))
        );
      },
      { timeoutMs: 60_000, intervalMs: 50, what: 'every replica to be healthy' },
    );
  }
}
