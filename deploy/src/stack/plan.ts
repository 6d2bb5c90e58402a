/**
 * The plan of a stack: all that the supervisor needs to mind its processes, worked out and checked beforehand by `flotilla up`, so that mistakes are told at the
 * terminal and the supervisor itself stays small. Kept in <exec-root>/supervisor/plan.json, 0600: it holds the stack's passwords.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ProcessName } from './services.ts';

/** Stands for the instance's id in commands, environments and paths. */
export const instancePlaceholder = '{instance}';

export type Probe =
  /** grpc.health.v1 Check on unix sockets: every one must answer that it serves. */
  | { readonly kind: 'grpc'; readonly sockets: readonly string[] }
  | { readonly kind: 'redis'; readonly socket: string; readonly user: string; readonly password: string }
  | { readonly kind: 'nats'; readonly port: number };

export interface ProcessPlan {
  readonly name: ProcessName;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Who it runs as, for people. */
  readonly account: string;
  /** Where its output goes. */
  readonly log: string;
  /** Where it keeps its data: made again before it starts, should it be gone. */
  readonly data?: { readonly path: string; readonly uid: number; readonly gid: number };
  /** Gets the listening sockets from descriptor 3 on. */
  readonly listens: boolean;
  readonly probe: Probe;
  /** Where it is dialled, for people. */
  readonly address: string;
  /** Files that go when the instance is gone. */
  readonly sockets: readonly string[];
  /** Engines (1) start before services (2). */
  readonly startStage: number;
  /** Lower stops first. */
  readonly stopStage: number;
  readonly stopTimeoutMs: number;
  /** Replicas at the start. */
  readonly count: number;
  readonly version: string;
  /** Equal digests: a running instance does what this plan wants and may be kept. */
  readonly digest: string;
}

export type ListenerName = 'unix' | 'tcp' | 'tls';

export interface Listener {
  readonly name: ListenerName;
  /** `unix:///path` or `tcp://host:port`. */
  readonly address: string;
  /** The supervisor's descriptor. */
  readonly fd: number;
  /** The socket's inode: tells it again in a process that was given it. */
  readonly inode: number;
}

export interface Plan {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly engineId: string;
  readonly version: string;
  /** Holds the stack's lock as long as it is open. */
  readonly lockFd: number;
  readonly listeners: readonly Listener[];
  readonly processes: readonly ProcessPlan[];
  /** A bind mount of the code that `down` takes away. */
  readonly codeMount: string | undefined;
  /** The operator's certificate files → the copies that the gateway may read; copied again when they change. */
  readonly tlsCopies: readonly TlsCopy[];
  /** Kept bounded like the other logs. */
  readonly auditLog?: string | undefined;
  /** Where the supervisor leaves its process id while it runs. */
  readonly pidFile?: string | undefined;
}

export interface TlsCopy {
  readonly from: string;
  readonly to: string;
  readonly uid: number;
  readonly gid: number;
  /** A file of hosts: its certificates are copied into it. */
  readonly hosts?: boolean;
}

/** What the supervisor has open for its stack: the listening sockets, and the lock. */
export function heldDescriptors({ lockFd, listeners }: Plan): number[] {
  return [...listeners.map(({ fd }) => fd), lockFd];
}

/** The plan of a program that has {@link heldDescriptors} from number `first` on. */
export function renumbered(plan: Plan, first: number): Plan {
  const listeners = plan.listeners.map((listener, index) => ({ ...listener, fd: first + index }));
  return { ...plan, listeners, lockFd: first + listeners.length };
}

export function writePlan(path: string, plan: Plan): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(plan)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function readPlan(path: string): Plan {
  return JSON.parse(readFileSync(path, 'utf8')) as Plan;
}

/** `text` with the instance's id in it. */
export function forInstance(text: string, instance: string): string {
  return text.replaceAll(instancePlaceholder, instance);
}
