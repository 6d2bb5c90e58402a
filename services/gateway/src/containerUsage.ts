/** What running containers use, for `GET /metrics`: the numbers of `docker stats`, one look at each container a scrape. */
import type { ContainerStats, ContainerSummary } from '@flotilla/engine-api';
import { currentRequest } from '@flotilla/service-kit';
import { Counter, Gauge, Registry } from 'prom-client';
import type { Backends } from './backends.ts';

/** For a whole look: it ends within a scrape's patience, whatever the services do. */
const withinMs = 5_000;
const atOnce = 16;
const labels = ['id', 'name', 'image'] as const;

interface Use {
  readonly of: Readonly<Record<(typeof labels)[number], string>>;
  readonly stats: ContainerStats;
}

export class ContainerUsage {
  private readonly containers: Pick<Backends['containers'], 'list' | 'stats'>;
  private readonly withinMs: number;
  /** Looks under way, by who asked: not everybody may see all. */
  private readonly looks = new Map<string, Promise<string>>();

  constructor(containers: Pick<Backends['containers'], 'list' | 'stats'>, options: { readonly withinMs?: number } = {}) {
    this.containers = containers;
    this.withinMs = options.withinMs ?? withinMs;
  }

  /**
   * The series as Prometheus reads them, of a look that is under way or a new one. What cannot be asked in time is left out: absent says it better than a
   * number that is not known.
   */
  text(): Promise<string> {
    const asker = JSON.stringify(currentRequest()?.identity ?? null);
    const underWay = this.looks.get(asker);
    if (underWay !== undefined) return underWay;
    const look = this.look().finally(() => this.looks.delete(asker));
    this.looks.set(asker, look);
    return look;
  }

  private async look(): Promise<string> {
    const series = new Series();
    for (const use of await this.uses().catch(() => [])) series.show(use);
    return await series.text();
  }

  private async uses(): Promise<Use[]> {
    const signal = AbortSignal.timeout(this.withinMs);
    const { containersJson } = await this.containers.list({ all: false, limit: 0, size: false, filters: {} }, { signal });
    const running = JSON.parse(Buffer.from(containersJson).toString('utf8')) as ContainerSummary[];
    const uses: Use[] = [];
    const next = running.values();
    const work = async (): Promise<void> => {
      for (const { Id, Names, Image } of next) {
        if (signal.aborted) return;
        try {
          for await (const { statsJson } of this.containers.stats({ container: Id, stream: false, oneShot: true }, { signal })) {
            const stats = JSON.parse(Buffer.from(statsJson).toString('utf8')) as ContainerStats;
            uses.push({ of: { id: Id, name: (Names[0] ?? '').replace(/^\//, ''), image: Image }, stats });
          }
        } catch {
          // It has gone meanwhile, or the time is over.
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
    return uses;
  }
}

/** The series of one look. */
class Series {
  private readonly registry = new Registry();
  private readonly cpu = this.counter('cpu_seconds', 'CPU time used.');
  private readonly memory = this.gauge(
    'memory_usage_bytes',
    'Memory in use, without the cache that is free to go, as docker stats shows it.',
  );
  private readonly memoryLimit = this.gauge('memory_limit_bytes', "Memory that it may use; the host's where it has no limit.");
  private readonly processes = this.gauge('processes', 'Processes and threads in it.');
  private readonly received = this.counter('network_receive_bytes', 'Bytes received, by interface.', ['interface']);
  private readonly sent = this.counter('network_transmit_bytes', 'Bytes sent, by interface.', ['interface']);
  private readonly read = this.counter('block_read_bytes', 'Bytes read from block devices.');
  private readonly written = this.counter('block_write_bytes', 'Bytes written to block devices.');

  private gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `flotilla_container_${name}`, help, registers: [this.registry], labelNames: labels });
  }

  private counter(name: string, help: string, more: readonly string[] = []): Counter {
    return new Counter({ name: `flotilla_container_${name}_total`, help, registers: [this.registry], labelNames: [...labels, ...more] });
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }

  show({ of, stats }: Use): void {
    const { usage, limit, stats: memory = {} } = stats.memory_stats;
    // It stopped meanwhile: what is left of it is no use of anything.
    if (usage === undefined) return;
    this.cpu.inc(of, stats.cpu_stats.cpu_usage.total_usage / 1e9);
    this.memory.set(of, usage - Math.min(usage, memory.total_inactive_file ?? memory.inactive_file ?? 0));
    this.memoryLimit.set(of, limit ?? 0);
    this.processes.set(of, stats.pids_stats?.current ?? 0);
    for (const [name, counts] of Object.entries(stats.networks ?? {})) {
      this.received.inc({ ...of, interface: name }, counts.rx_bytes);
      this.sent.inc({ ...of, interface: name }, counts.tx_bytes);
    }
    const bytes = (op: RegExp): number =>
      (stats.blkio_stats.io_service_bytes_recursive ?? []).filter((entry) => op.test(entry.op)).reduce((sum, { value }) => sum + value, 0);
    this.read.inc(of, bytes(/^read$/i));
    this.written.inc(of, bytes(/^write$/i));
  }
}
