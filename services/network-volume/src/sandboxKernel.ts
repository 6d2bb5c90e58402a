/** Makes kernel and files what a sandbox's record says, and takes it away again. */
import { setImmediate } from 'node:timers/promises';
import { System } from '@flotilla/errors';
import type { ClusterAddresses } from './endpointChooser.ts';
import { type PortHolder, portsATurn } from './ports.ts';
import type { Records } from './records.ts';
import { addressesOf, type EndpointRecord, type SandboxRecord } from './sandbox.ts';
import type { Files, Flows, NameServers, PortRules, Stacks } from './sandboxOutside.ts';
import { gatewayEndpoint, gatewaysOf, interfaceWish, portForwards, portTarget } from './sandboxPlan.ts';

export interface SandboxKernelOptions {
  readonly records: Records;
  readonly stacks: Stacks;
  readonly rules: PortRules;
  readonly flows: Flows;
  readonly holder: PortHolder;
  readonly files: Files;
  readonly nameServers: NameServers;
  readonly cluster?: Pick<ClusterAddresses, 'release'> | undefined;
}

export class SandboxKernel {
  private readonly options: SandboxKernelOptions;

  constructor(options: SandboxKernelOptions) {
    this.options = options;
  }

  /** Makes kernel and files what the record says. Idempotent. */
  realize(sandbox: SandboxRecord, sysctls: Readonly<Record<string, string>>): void {
    const { stacks, rules, flows, files } = this.options;
    for (const endpoint of sandbox.endpoints) this.attach(sandbox, endpoint);
    if (sandbox.kind === 'own' && Object.keys(sysctls).length > 0) stacks.setSysctls(stacks.netnsPath(sandbox.slot), sysctls);
    rules.addPorts(portForwards(sandbox));
    void flows.forgetMisled(portForwards(sandbox));
    files.write(sandbox);
  }

  attach(sandbox: SandboxRecord, endpoint: EndpointRecord): void {
    const network = this.options.records.networks.get(endpoint.networkId);
    if (network === undefined || endpoint.interfaceName === '') return;
    this.options.stacks.attach(interfaceWish(this.options.stacks.netnsPath(sandbox.slot), network, sandbox, endpoint));
  }

  /** Takes one endpoint off its network. Idempotent. */
  detach(sandbox: SandboxRecord, endpoint: EndpointRecord): void {
    const { stacks, cluster, records } = this.options;
    const { hostLink, interfaceName, networkId, plugin } = endpoint;
    if (hostLink !== '') stacks.detach(hostLink);
    else if (interfaceName !== '' && plugin !== undefined) stacks.giveBack(stacks.netnsPath(sandbox.slot), interfaceName, plugin.source);
    else if (interfaceName !== '') stacks.removeChild(stacks.netnsPath(sandbox.slot), interfaceName);
    if (records.networks.get(networkId)?.driver !== 'overlay') return;
    for (const address of addressesOf(endpoint)) cluster?.release(networkId, address);
  }

  /** The kernel's part of a teardown; every step is tried, the first failure is thrown. */
  dismantle(sandbox: SandboxRecord): void {
    const { rules, holder, nameServers, stacks } = this.options;
    const steps = [
      () => rules.removePorts(portForwards(sandbox)),
      ...sandbox.ports.map((port) => () => holder.release(port)),
      () => nameServers.stop(sandbox.containerId),
      ...sandbox.endpoints.map((endpoint) => () => this.detach(sandbox, endpoint)),
      () => sandbox.slot !== '' && stacks.removeSlot(sandbox.slot),
    ];
    const failures: unknown[] = [];
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new System('the sandbox could not be taken down', { cause: new AggregateError(failures) });
  }

  /** Lets default routes follow the endpoint that now has the best claim. */
  moveGateway(before: SandboxRecord, now: SandboxRecord): void {
    const gateway = gatewayEndpoint(now.endpoints);
    if (gateway === undefined || gateway.id === gatewayEndpoint(before.endpoints)?.id) return;
    this.options.stacks.setGateways(gatewaysOf(this.options.stacks.netnsPath(now.slot), gateway));
  }

  /** Closes published ports. */
  closePorts(sandbox: SandboxRecord): void {
    const { rules, holder } = this.options;
    rules.removePorts(portForwards(sandbox));
    for (const port of sandbox.ports) holder.release(port);
  }

  /** Closes published ports some hundreds a turn of the event loop. */
  async closePortsByTurns(sandbox: SandboxRecord): Promise<void> {
    for (let from = 0; from < sandbox.ports.length; from += portsATurn) {
      this.closePorts({ ...sandbox, ports: sandbox.ports.slice(from, from + portsATurn) });
      await setImmediate();
    }
  }

  /** Lets published ports lead to the endpoint that now has the best claim, and closes those that are not `now`'s. */
  async movePorts(before: SandboxRecord, now: SandboxRecord): Promise<void> {
    const { rules, holder, flows } = this.options;
    rules.removePorts(portForwards(before));
    for (const port of before.ports) holder.release(port);
    // A port that `now` has is held without a break; one that was published for `now` is held already.
    for (const port of now.ports) holder.hold(port, portTarget(now));
    rules.addPorts(portForwards(now));
    void flows.forgetMisled(portForwards(now));
    await flows.forgetThoseOf(portForwards(before));
  }
}
