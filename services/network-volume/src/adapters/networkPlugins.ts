/** Network and address plugins, found in dockerd's folders: the methods of `NetworkDriver` and `IpamDriver`. */
import { errorMessage, NotFound, System } from '@flotilla/errors';
import { z } from 'zod';
import type { IpamPlugin, NetworkDriverPlugin, PluginInterface, PluginJoint, PluginRoute, Plugins, Pool } from '../networkPlugin.ts';
import { NoSuchMethod, PluginClient } from './pluginClient.ts';
import type { PluginDirectory } from './pluginDirectory.ts';

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '');
const nothing = z.unknown();
const capabilities = z.object({ Scope: z.enum(['local', 'global']) });
const created = z.object({ Interface: z.object({ Address: text, AddressIPv6: text, MacAddress: text }).nullish() }).nullish();
const joined = z
  .object({
    InterfaceName: z.object({ SrcName: text, DstPrefix: text }).nullish(),
    Gateway: text,
    GatewayIPv6: text,
    StaticRoutes: z.array(z.object({ Destination: z.string(), NextHop: text })).nullish(),
  })
  .nullish();
const addressSpaces = z.object({ LocalDefaultAddressSpace: text });
const ipamCapabilities = z.object({ RequiresMACAddress: z.boolean().nullish() });
const requestedPool = z.object({ PoolID: z.string(), Pool: z.string(), Data: z.record(z.string(), z.string()).nullish() });
const requestedAddress = z.object({ Address: text });

const untouched: PluginInterface = { Address: '', AddressIPv6: '', MacAddress: '' };
const gatewayLabel = 'com.docker.network.gateway';

/** A plugin's methods of one kind; what it says in an answer is marked as dockerd marks it. */
class Methods {
  private readonly client: PluginClient;
  private readonly kind: string;

  constructor(client: PluginClient, kind: string) {
    this.client = client;
    this.kind = kind;
  }

  ask<T>(method: string, body: object, answer: z.ZodType<T>): Promise<T> {
    return this.client.call(`${this.kind}.${method}`, body, answer, 'remote: ');
  }

  async tell(method: string, body: object): Promise<void> {
    await this.ask(method, body, nothing);
  }

  async tellIfItCan(method: string, body: object): Promise<void> {
    await this.tell(method, body).catch((error: unknown) => {
      if (!(error instanceof NoSuchMethod)) throw error;
    });
  }
}

function driverOf(methods: Methods, scope: 'local' | 'global'): NetworkDriverPlugin {
  const ids = (NetworkID: string, EndpointID: string) => ({ NetworkID, EndpointID });
  return {
    scope,
    createNetwork: (NetworkID, Options, IPv4Data, IPv6Data) => methods.tell('CreateNetwork', { NetworkID, Options, IPv4Data, IPv6Data }),
    deleteNetwork: (NetworkID) => methods.tell('DeleteNetwork', { NetworkID }),
    createEndpoint: async (network, endpoint, Interface, Options) =>
      (await methods.ask('CreateEndpoint', { ...ids(network, endpoint), Interface, Options }, created))?.Interface ?? untouched,
    deleteEndpoint: (network, endpoint) => methods.tell('DeleteEndpoint', ids(network, endpoint)),
    join: async (network, endpoint, SandboxKey, Options) =>
      jointOf(await methods.ask('Join', { ...ids(network, endpoint), SandboxKey, Options }, joined)),
    leave: (network, endpoint) => methods.tell('Leave', ids(network, endpoint)),
    publish: (network, endpoint, Options) => methods.tellIfItCan('ProgramExternalConnectivity', { ...ids(network, endpoint), Options }),
    unpublish: (network, endpoint) => methods.tellIfItCan('RevokeExternalConnectivity', ids(network, endpoint)),
  };
}

function jointOf(answer: z.output<typeof joined>): PluginJoint {
  const { InterfaceName, Gateway = '', GatewayIPv6 = '', StaticRoutes } = answer ?? {};
  const routes: PluginRoute[] = (StaticRoutes ?? []).map(({ Destination, NextHop }) => ({
    destination: Destination,
    ...(NextHop === '' ? {} : { gateway: NextHop }),
  }));
  return {
    source: InterfaceName?.SrcName ?? '',
    prefix: InterfaceName?.DstPrefix ?? '',
    ...(Gateway === '' ? {} : { ipv4Gateway: Gateway }),
    ...(GatewayIPv6 === '' ? {} : { ipv6Gateway: GatewayIPv6 }),
    routes,
  };
}

function ipamOf(methods: Methods, addressSpace: string, requiresMac: boolean): IpamPlugin {
  return {
    addressSpace,
    requiresMac,
    async requestPool({ subnet, range, options, isV6 }): Promise<Pool> {
      const wish = { AddressSpace: addressSpace, Pool: subnet, SubPool: range, Options: options, V6: isV6 };
      const { PoolID, Pool: block, Data } = await methods.ask('RequestPool', wish, requestedPool);
      const gateway = Data?.[gatewayLabel];
      return { id: PoolID, subnet: block, ...(gateway === undefined ? {} : { gateway }) };
    },
    releasePool: (PoolID) => methods.tell('ReleasePool', { PoolID }),
    async requestAddress(PoolID, Address, Options) {
      const answer = await methods.ask('RequestAddress', { PoolID, Address, Options }, requestedAddress);
      if (answer.Address === '') throw new System('no IP returned');
      return answer.Address;
    },
    releaseAddress: (PoolID, Address) => methods.tell('ReleaseAddress', { PoolID, Address }),
  };
}

export class NetworkPlugins implements Plugins {
  private readonly directory: PluginDirectory;
  private readonly loaded = new Map<string, { address: string; plugin: Promise<unknown> }>();

  constructor(directory: PluginDirectory) {
    this.directory = directory;
  }

  driver(name: string): Promise<NetworkDriverPlugin> {
    return this.find(name, 'NetworkDriver', async (methods) => {
      const { Scope } = await methods.ask('GetCapabilities', {}, capabilities);
      return driverOf(methods, Scope);
    });
  }

  ipam(name: string): Promise<IpamPlugin> {
    return this.find(name, 'IpamDriver', async (methods) => {
      const { LocalDefaultAddressSpace } = await methods.ask('GetDefaultAddressSpaces', {}, addressSpaces);
      // A plugin may lack this method.
      const known = await methods.ask('GetCapabilities', {}, ipamCapabilities).catch(() => undefined);
      return ipamOf(methods, LocalDefaultAddressSpace, known?.RequiresMACAddress ?? false);
    });
  }

  private find<T>(name: string, kind: string, load: (methods: Methods) => Promise<T>): Promise<T> {
    const address = this.directory.find(name);
    if (address === undefined) return Promise.reject(new NotFound(`plugin "${name}" not found`));
    const [id, key] = [`${kind}/${name}`, JSON.stringify(address)];
    const known = this.loaded.get(id);
    if (known?.address === key) return known.plugin as Promise<T>;
    const plugin = this.load(name, kind, new PluginClient(address), load);
    this.loaded.set(id, { address: key, plugin });
    plugin.catch(() => this.loaded.delete(id));
    return plugin;
  }

  private async load<T>(name: string, kind: string, client: PluginClient, load: (methods: Methods) => Promise<T>): Promise<T> {
    if (!(await client.implements()).includes(kind)) {
      throw new System(`Plugin does not implement the requested driver: plugin="${name}", requested implementation="${kind}"`);
    }
    try {
      return await load(new Methods(client, kind));
    } catch (error) {
      throw new System(`error getting capability for ${name} due to ${errorMessage(error)}`, { cause: error });
    }
  }
}
