/** What running containers use, for `GET /metrics`: the numbers of `docker stats`, one look at each container a scrape. */
import type { ContainerStats, ContainerSummary } from '@flotilla/engine-api';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Backends } from './backends.ts';

/** Answers within a scrape's patience, whatever the services do. */
const within = { deadlineMs: 5_000 } as const;
const atOnce = 16;
const labels = ['id', 'name', 'image'] as const;

interface Use {
  readonly of: Readonly<Record<(typeof labels)[number], string>>;
  readonly stats: ContainerStats;
}

export class ContainerUsage {
  private readonly containers: Pick<Backends['containers'], 'list' | 'stats'>;
  private readonly series;

  constructor(containers: Pick<Backends['containers'], 'list' | 'stats'>, registry: Registry) {
    this.containers = containers;
    const made = { labelNames: labels, registers: [registry] };
    const gauge = (name: string, help: string): Gauge => new Gauge({ name: `flotilla_container_${name}`, help, ...made });
    const counter = (name: string, help: string, more: string[] = []): Counter =>
      new Counter({ name: `flotilla_container_${name}_total`, help, registers: [registry], labelNames: [...labels, ...more] });
    this.series = {
      cpu: counter('cpu_seconds', 'CPU time used.'),
      memory: gauge('memory_usage_bytes', 'Memory in use, without the cache that is free to go, as docker stats shows it.'),
      memoryLimit: gauge('memory_limit_bytes', "Memory that it may use; the host's where it has no limit."),
      processes: gauge('processes', 'Processes and threads in it.'),
      received: counter('network_receive_bytes', 'Bytes received, by interface.', ['interface']),
      sent: counter('network_transmit_bytes', 'Bytes sent, by interface.', ['interface']),
      read: counter('block_read_bytes', 'Bytes read from block devices.'),
      written: counter('block_write_bytes', 'Bytes written to block devices.'),
    };
  }

  /** Looks anew. What cannot be asked is left out: absent says it better than a number that is not known. */
  async look(): Promise<void> {
    const uses = await this.uses().catch(() => []);
    for (const series of Object.values(this.series)) series.reset();
    for (const use of uses) this.show(use);
  }

  private async uses(): Promise<Use[]> {
    const { containersJson } = await this.containers.list({ all: false, limit: 0, size: false, filters: {} }, within);
    const running = JSON.parse(Buffer.from(containersJson).toString('utf8')) as ContainerSummary[];
    const uses: Use[] = [];
    const next = running.values();
    const work = async (): Promise<void> => {
      for (const { Id, Names, Image } of next) {
        try {
          for await (const { statsJson } of this.containers.stats({ container: Id, stream: false, oneShot: true }, within)) {
            const stats = JSON.parse(Buffer.from(statsJson).toString('utf8')) as ContainerStats;
            uses.push({ of: { id: Id, name: (Names[0] ?? '').replace(/^\//, ''), image: Image }, stats });
          }
        } catch {
          // It has gone meanwhile.
        }
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
    return uses;
  }

  private show({ of, stats }: Use): void {
    const { series } = this;
    const { usage, limit, stats: memory = {} } = stats.memory_stats;
    // It stopped meanwhile: what is left of it is no use of anything.
    if (usage === undefined) return;
    series.cpu.inc(of, stats.cpu_stats.cpu_usage.total_usage / 1e9);
    series.memory.set(of, usage - Math.min(usage, memory.total_inactive_file ?? memory.inactive_file ?? 0));
    series.memoryLimit.set(of, limit ?? 0);
    series.processes.set(of, stats.pids_stats?.current ?? 0);
    for (const [name, counts] of Object.entries(stats.networks ?? {})) {
      series.received.inc({ ...of, interface: name }, counts.rx_bytes);
      series.sent.inc({ ...of, interface: name }, counts.tx_bytes);
    }
    const bytes = (op: RegExp): number =>
      (stats.blkio_stats.io_service_bytes_recursive ?? []).filter((entry) => op.test(entry.op)).reduce((sum, { value }) => sum + value, 0);
    series.read.inc(of, bytes(/^read$/i));
    series.written.inc(of, bytes(/^write$/i));
  }
}
