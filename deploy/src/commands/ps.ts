/** `flotilla ps`: the processes of the stack. */
import { isUnavailable } from '@flotilla/errors/classes';
import { askReport, type StackReport } from '../stack/controlClient.ts';
import { type Roots, stackPaths } from '../stack/paths.ts';
import { keeperOf } from '../supervisor/keeper.ts';
import { isAlive } from '../supervisor/process.ts';
import { readState } from '../supervisor/state.ts';
import type { ProcessReport } from '../supervisor/supervisor.ts';
import { askStatus, describeUpstreams, type RegistryStatus } from './registryClient.ts';
import { type InstanceWorkload, readWorkload } from './workload.ts';

/** A process of the stack, and what it has to do where it says so. */
export type ListedProcess = Omit<ProcessReport, 'callSockets'> & Partial<InstanceWorkload>;

export async function ps(roots: Roots, json: boolean): Promise<void> {
  const processes = await listProcesses(roots);
  const [registry, ...listed] = await Promise.all([statusOfRegistry(roots, processes), ...processes.map(withWorkload)]);
  if (json) {
    const told = listed.map((item) =>
      item.service === 'registry-proxy' && registry !== undefined ? { ...item, upstreams: registry.upstreams } : item,
    );
    process.stdout.write(`${JSON.stringify(told, null, 2)}\n`);
    return;
  }
  process.stdout.write(formatProcesses(listed));
  if (registry !== undefined) for (const line of describeUpstreams(registry)) process.stdout.write(`${line}\n`);
}

async function withWorkload({ callSockets, ...report }: ProcessReport): Promise<ListedProcess> {
  return { ...report, ...(await readWorkload(callSockets)) };
}

/** What the stack's registry-proxy knows of its upstreams: rate limits, quarantine. Undefined when it cannot be asked. */
async function statusOfRegistry({ execRoot }: Roots, processes: readonly ProcessReport[]): Promise<RegistryStatus | undefined> {
  if (!processes.some((item) => item.service === 'registry-proxy' && item.healthy)) return undefined;
  // `ps` is for bad days too: one that does not answer shows in its health.
  return askStatus({ execRoot }).catch(() => undefined);
}

/** An empty list when the stack is down. Where the supervisor was killed, what still runs is told from its last notes. */
async function listProcesses(roots: Roots): Promise<ProcessReport[]> {
  const paths = stackPaths(roots);
  try {
    const report: StackReport = await askReport(paths.control);
    return [...report.processes];
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    const orphans = readState(paths.state)?.processes.filter(isAlive) ?? [];
    if (orphans.length > 0 && keeperOf(paths) === undefined)
      process.stderr.write('flotilla: warning: the supervisor is gone; `flotilla up` starts one that takes over what runs\n');
    return orphans.map((orphan) => ({
      service: orphan.name,
      instance: orphan.instance,
      pid: orphan.pid,
      address: orphan.address,
      callSockets: [],
      healthy: false,
      reason: 'nobody minds it',
      version: orphan.version,
      uptimeSeconds: Math.floor((Date.now() - Date.parse(orphan.startedAt)) / 1000),
      startedAt: orphan.startedAt,
      restarts: orphan.restarts,
      account: '',
      draining: orphan.draining === true,
      outdated: false,
    }));
  }
}

/** A table, its columns as wide as what is in them. */
export function formatProcesses(processes: readonly ListedProcess[]): string {
  const rows = [
    ['SERVICE', 'INSTANCE', 'PID', 'HEALTH', 'LOAD', 'LEASES', 'UPTIME', 'RESTARTS', 'VERSION', 'USER', 'ADDRESS'],
    ...processes.map((item) => [
      item.service,
      item.instance,
      String(item.pid),
      item.healthy ? (item.outdated ? 'healthy, to be replaced' : 'healthy') : item.reason || 'not healthy',
      formatLoad(item),
      item.leases === undefined ? '-' : String(item.leases.length),
      formatUptime(item.uptimeSeconds),
      String(item.restarts),
      item.version,
      item.account,
      item.address,
    ]),
  ];
  const widths = (rows[0] ?? []).map((_title, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Calls a second of late, and those under way. */
function formatLoad({ answeredPerSecond, underWay }: Partial<InstanceWorkload>): string {
  return answeredPerSecond === undefined || underWay === undefined ? '-' : `${answeredPerSecond.toFixed(1)}/s, ${underWay} now`;
}

function formatUptime(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86_400)}d${Math.floor((seconds % 86_400) / 3600)}h`;
}
