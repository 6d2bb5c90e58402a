/** What a sandbox needs of the outside world, as its domain sees it: namespaces, packet filter, files, name servers. The adapters fit these. */
import type { PortForward } from './firewall.ts';
import type { Gateways, InterfaceWish } from './hostNetwork.ts';
import type { SandboxRecord } from './sandbox.ts';
import type { SandboxFilePaths } from './sandboxFileSet.ts';

/** The kernel's side of a sandbox. */
export interface Stacks {
  makeBareSlot(): { name: string; netnsPath: string };
  newHostLink(): string;
  netnsPath(slot: string): string;
  isAlive(slot: string): boolean;
  attach(wish: InterfaceWish): void;
  setGateways(wish: Gateways): void;
  setSysctls(netnsPath: string, sysctls: Readonly<Record<string, string>>): void;
  detach(hostLink: string): void;
  removeChild(netnsPath: string, name: string): void;
  /** Gives an interface that a plugin made back to the host, by its name there. */
  giveBack(netnsPath: string, name: string, source: string): void;
  removeSlot(name: string): void;
  hasIPv6(): boolean;
}

/** The packet filter's side of published ports. */
export interface PortRules {
  addPorts(ports: readonly PortForward[]): void;
  removePorts(ports: readonly PortForward[]): void;
}

/** Flows that the kernel remembers: it sends their packets where the first one went, whatever the rules say by now. Never throws. */
export interface Flows {
  /** Those that were led to a container by these forwards: whoever has its address next must not get them. */
  forgetThoseOf(forwards: readonly PortForward[]): Promise<void>;
  /** Datagrams to these host ports that go elsewhere, because they came before the port was published. */
  forgetMisled(forwards: readonly PortForward[]): Promise<void>;
}

/** The files of a sandbox, made of its record. */
export interface Files {
  /** Writes them for a start. */
  write(sandbox: SandboxRecord): SandboxFilePaths;
  /** After a change while it runs: what the user edited stays. `before` is how the record was. */
  refresh(before: SandboxRecord, now: SandboxRecord): void;
  /** Links of others point to this container: their hosts files follow. */
  refreshLinkedTo(containerId: string): void;
  paths(containerId: string): SandboxFilePaths;
  remove(containerId: string): void;
  containerIds(): string[];
}

/** The embedded name servers. */
export interface NameServers {
  /** Opens one inside a sandbox; gives its port. */
  start(containerId: string, netnsPath: string, port?: number): number;
  stop(containerId: string): void;
}
