/** Connecting and disconnecting while the container runs. Its other calls wait meanwhile: the caller sees to that. */
import { Forbidden } from '@flotilla/errors';
import type { EndpointChooser } from './endpointChooser.ts';
import { checkShared, type Joining } from './joining.ts';
import { hasBridge, type NetworkRecord, predefinedNames } from './network.ts';
import { eventAttributes } from './networkRecords.ts';
import type { PluginEndpoints } from './pluginEndpoints.ts';
import type { PublishedPort } from './ports.ts';
import { addressIds, connectedPuts, event, type Records } from './records.ts';
import type { EndpointRecord, SandboxRecord } from './sandbox.ts';
import type { SandboxKernel } from './sandboxKernel.ts';
import type { Files, NameServers, Stacks } from './sandboxOutside.ts';
import { gatewayEndpoint, interfaceNameFor, usesNameServer } from './sandboxPlan.ts';

export interface LiveConnectionsOptions {
  readonly records: Records;
  readonly stacks: Stacks;
  readonly files: Files;
  readonly nameServers: NameServers;
  readonly kernel: SandboxKernel;
  readonly chooser: EndpointChooser;
  readonly plugged: PluginEndpoints;
}

export type Publish = (sandbox: SandboxRecord, gateway: EndpointRecord) => Promise<PublishedPort[]>;

export class LiveConnections {
  private readonly options: LiveConnectionsOptions;

  constructor(options: LiveConnectionsOptions) {
    this.options = options;
  }

  /** @param publish - finds host ports for a sandbox that has none, at the endpoint given. */
  async connect(sandbox: SandboxRecord, joining: Joining, publish: Publish): Promise<SandboxRecord> {
    const { network } = joining;
    checkShared(network);
    for (const { networkId } of sandbox.endpoints) {
      const joined = this.options.records.networks.get(networkId);
      if (joined !== undefined) checkShared(joined);
    }
    if (sandbox.endpoints.some(({ networkId }) => networkId === network.id)) {
      throw new Forbidden(`endpoint with name ${sandbox.containerName} already exists in network ${network.name}`);
    }
    const { records, stacks, nameServers, files, kernel, chooser } = this.options;
    const netnsPath = stacks.netnsPath(sandbox.slot);
    const place = {
      netnsPath,
      isTaken: (name: string): boolean => sandbox.endpoints.some((other) => other.interfaceName === name),
      ports: { exposedPorts: sandbox.exposedPorts, portBindings: {} },
      interfaceName: interfaceNameFor(joining, sandbox.endpoints),
      hostLink: hasBridge(network) ? stacks.newHostLink() : '',
    };
    const endpoint = await chooser.choose(joining, place, sandbox);
    let now = sandbox;
    try {
      const dnsPort = sandbox.dnsPort ?? (usesNameServer([network]) ? nameServers.start(sandbox.containerId, netnsPath) : undefined);
      now = { ...sandbox, endpoints: [...sandbox.endpoints, endpoint], ...(dnsPort === undefined ? {} : { dnsPort }) };
      now = { ...now, ports: await this.portsAfter(sandbox, now, publish) };
      await records.commit({
        puts: connectedPuts(records, now, endpoint),
        events: [event('network', 'connect', network.id, { container: sandbox.containerId, ...eventAttributes(network) })],
      });
    } catch (error) {
      if (sandbox.dnsPort === undefined) nameServers.stop(sandbox.containerId);
      if (sandbox.ports.length === 0) kernel.closePorts(now);
      await chooser.giveUp([endpoint]);
      throw error;
    } finally {
      chooser.settle([endpoint]);
    }
    try {
      // The interface comes last: where a crash leaves it out, a reconcile makes it, and the files, anew.
      files.refresh(sandbox, now);
      kernel.attach(now, endpoint);
      if (gatewayEndpoint(now.endpoints)?.id === endpoint.id) await kernel.movePorts(sandbox, now);
      return now;
    } catch (error) {
      await this.disconnect(now, network, endpoint);
      throw error;
    }
  }

  async disconnect(sandbox: SandboxRecord, network: NetworkRecord, endpoint: EndpointRecord): Promise<SandboxRecord> {
    const { records, nameServers, files, kernel } = this.options;
    const wasGateway = gatewayEndpoint(sandbox.endpoints)?.id === endpoint.id;
    const endpoints = sandbox.endpoints.filter(({ id }) => id !== endpoint.id);
    const { dnsPort, ...rest } = sandbox;
    const keepsNameServer = endpoints.some(({ networkName }) => !predefinedNames.includes(networkName));
    const now: SandboxRecord = {
      ...rest,
      ...(dnsPort === undefined || !keepsNameServer ? {} : { dnsPort }),
      endpoints,
      ports: await this.portsAfter(sandbox, { ...sandbox, endpoints }, () => Promise.resolve([])),
    };
    if (wasGateway) await kernel.movePorts(sandbox, now);
    await this.options.plugged.leave([endpoint], () => kernel.detach(sandbox, endpoint));
    if (!keepsNameServer) nameServers.stop(sandbox.containerId);
    // Before the record: after a crash one that still has the endpoint has all of it made anew, one without it is not looked at.
    let failure: unknown;
    try {
      kernel.moveGateway(sandbox, now);
      files.refresh(sandbox, now);
    } catch (error) {
      failure = error;
    }
    const { sandboxes, addresses } = records;
    await records.commit({
      puts: [sandboxes.put(sandbox.containerId, now)],
      deletes: addressIds([endpoint]).map((id) => addresses.delete(id)),
      events: [event('network', 'disconnect', network.id, { container: sandbox.containerId, ...eventAttributes(network) })],
    });
    if (failure !== undefined) throw failure;
    return now;
  }

  /** Published ports follow the gateway, but for one on a parent's wire, where there are none. */
  private async portsAfter(before: SandboxRecord, now: SandboxRecord, publish: Publish): Promise<readonly PublishedPort[]> {
    const gateway = gatewayEndpoint(now.endpoints);
    if (gateway?.id === gatewayEndpoint(before.endpoints)?.id) return before.ports;
    const network = gateway === undefined ? undefined : this.options.records.networks.get(gateway.networkId);
    if (gateway === undefined || network === undefined || !hasBridge(network)) return [];
    // What is only opened on a routed network has no port of the host that could stay the same.
    return before.ports.some(({ hostPort }) => hostPort !== 0) ? before.ports : publish(now, gateway);
  }
}
