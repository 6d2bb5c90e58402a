/**
 * The monitor of a container or exec: the process that holds its stdio or terminal, writes its log and its exit file, and outlives this service. adapters/conmon.ts
 * is the real one.
 */

/** The runtime refused or died; `message` is what it wrote. */
export class RuntimeFailure extends Error {
  override readonly name = 'RuntimeFailure';
}

export interface MonitorOptions {
  /** the container's id; what the runtime knows it by. */
  readonly id: string;
  /** unique for the monitor: the container's id, or the exec's. */
  readonly session: string;
  readonly bundle: string;
  /** what it runs in place of the OCI runtime. */
  readonly command: string;
  /** absent: output goes only to the attach socket. */
  readonly logPath?: string;
  readonly exitDirectory: string;
  readonly terminal: boolean;
  readonly stdin: boolean;
  /** a client that leaves the attach socket does not close stdin. */
  readonly leaveStdinOpen: boolean;
  /** the runtime is started in a mount namespace made for it. */
  readonly ownNamespace: boolean;
}

export interface ExecMonitorOptions extends MonitorOptions {
  readonly processSpec: string;
  /** it waits with the process until a client has connected to the attach socket. */
  readonly attach: boolean;
}

export interface Monitored {
  readonly pid: number;
  readonly monitorPid: number;
}

/** A monitor that waits for the word to start. */
export interface WaitingMonitor {
  /**
   * Starts the container through the runtime's command, and gives the ids of its first process and of its monitor.
   *
   * @throws RuntimeFailure with the runtime's own words.
   */
  start(): Promise<Monitored>;
  /** Ends it: the container is not to be started after all. Nothing happens once it was. */
  abandon(): void;
}

export type OutputListener = (stream: 1 | 2, bytes: Buffer) => void;

/** A connection to the stdio that a monitor holds. */
export interface StdioConnection {
  /** Sends input; resolves when the kernel has taken all of it, or when the process does not want more. */
  write(bytes: Buffer): Promise<void>;
  /** Half-closes: the process reads the end of its input, unless the monitor leaves it open. */
  endInput(): void;
  /** Resolves when the monitor has closed its side: no more output comes. */
  whenEnded(): Promise<void>;
  close(): void;
}

/** Input that goes on when this service is killed: it ends when somebody says so, or with its monitor. */
export interface KeptInput extends Omit<StdioConnection, 'close'> {
  /** Ends it, and the process' input with it. */
  close(): void;
  /** Another instance goes on with it. */
  leave(): void;
}

export interface Monitor {
  /** Spawns a container's monitor. It comes up while the bundle is still being written; the word to start lets it go on. */
  spawnMonitor(options: MonitorOptions): WaitingMonitor;
  /**
   * Starts an exec.
   *
   * @param connect - called when the stdio is there and before the process starts, so that no output is lost.
   * @throws RuntimeFailure with the runtime's own words.
   */
  startExec(options: ExecMonitorOptions, connect: () => Promise<void>): Promise<Monitored>;
  /** Connects to the stdio of what runs in a bundle. @param onOutput - every piece of output; without it they are thrown away. */
  connect(bundle: string, onOutput?: OutputListener): Promise<StdioConnection>;
  /** Connects to the input of what runs in a bundle whose monitor ends it with its client. */
  connectKept(bundle: string, monitorPid: number): KeptInput;
  /** Sets the terminal's size, in characters. */
  resize(bundle: string, height: number, width: number): Promise<void>;
}
