/** Endpoints that plugins have a part in: an address of an address plugin, an interface of a driver's making. */
import type { PortBinding } from '@flotilla/engine-api';
import { System, Unavailable } from '@flotilla/errors';
import { contains, type Family, parseAddress, parseCidr } from './cidr.ts';
import { macAddress } from './endpoint.ts';
import type { Joining } from './joining.ts';
import type { NetworkRecord } from './network.ts';
import type { IpamPlugin, NetworkDriverPlugin, PluginInterface, PluginJoint, PluginOptions, Plugins } from './networkPlugin.ts';
import { linkNamePattern } from './parentLinks.ts';
import { pluginAddress, withoutLength } from './pluginAddress.ts';
import { parseHostPort, parsePort } from './ports.ts';
import type { Records } from './records.ts';
import type { EndpointRecord } from './sandbox.ts';

export interface PluginEndpointsOptions {
  readonly records: Pick<Records, 'networks'>;
  readonly plugins: Plugins;
  readonly onError: (error: unknown) => void;
}

/** An address that a plugin has given. */
export interface GivenAddress {
  readonly family: 4 | 6;
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string | undefined;
}

/** Ports of the container, for drivers that publish them. */
export interface PortNeeds {
  readonly exposedPorts: readonly string[];
  readonly portBindings: Readonly<Record<string, readonly PortBinding[]>>;
}

/** How long plugins are told of endpoints that were lost with a start of the host, in all. */
const tellingLimitMs = 120_000;
const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;
const macLabel = 'com.docker.network.endpoint.macaddress';

export class PluginEndpoints {
  private readonly options: PluginEndpointsOptions;
  /** What plugins are being told in the background, by network. */
  private readonly telling = new Map<string, Promise<void>>();
  private tellUntil = 0;

  constructor(options: PluginEndpointsOptions) {
    this.options = options;
  }

  /** Asks for addresses of the network's pools; undefined when they are ours to choose. */
  async addresses({ network, wish }: Joining): Promise<{ given: GivenAddress[]; mac: string } | undefined> {
    if (!network.subnets.some(({ poolId }) => poolId !== undefined)) return undefined;
    // An address that it is told of later could be its next owner's.
    await this.telling.get(network.id);
    const ipam = await this.options.plugins.ipam(network.ipamDriver);
    const mac = ipam.requiresMac ? macAddress(wish.MacAddress, undefined) : (wish.MacAddress ?? '');
    const options: Record<string, string> = ipam.requiresMac ? { [macLabel]: mac } : {};
    const given: GivenAddress[] = [];
    for (const family of [4, 6] as const) {
      const asked = (family === 4 ? wish.IPAMConfig?.IPv4Address : wish.IPAMConfig?.IPv6Address) ?? '';
      const pools = poolsFor(network, family, asked);
      let failure: unknown;
      for (const { poolId, gateway } of pools) {
        try {
          given.push({ family, gateway, ...(await this.requestAddress(ipam, { poolId, family, asked, options })) });
          failure = undefined;
          break;
        } catch (error) {
          failure = error;
        }
      }
      if (failure === undefined) continue;
      await this.releaseAddresses(
        network,
        given.map(({ address }) => address),
      );
      throw failure;
    }
    return { given, mac };
  }

  private async requestAddress(
    ipam: IpamPlugin,
    { poolId, family, asked, options }: { poolId: string; family: Family; asked: string; options: Readonly<Record<string, string>> },
  ): Promise<{ address: string; prefixLength: number }> {
    const answer = await ipam.requestAddress(poolId, asked, options);
    try {
      return pluginAddress(answer, family);
    } catch (error) {
      await this.tried(() => ipam.releaseAddress(poolId, withoutLength(answer)));
      throw error;
    }
  }

  /** Lets the driver make the endpoint's interface. @param isTaken - whether an interface inside has that name. */
  async join(
    endpoint: EndpointRecord,
    place: { netnsPath: string; isTaken: (name: string) => boolean; ports: PortNeeds },
  ): Promise<EndpointRecord> {
    const network = this.options.records.networks.get(endpoint.networkId);
    if (network?.plugin === undefined) return endpoint;
    await this.telling.get(network.id);
    const driver = await this.options.plugins.driver(network.driver);
    const options = { ...endpoint.wish.DriverOpts, ...portOptions(place.ports) };
    const chosen = await driver.createEndpoint(network.id, endpoint.id, given(endpoint), options);
    const created = { ...endpoint, plugin: { source: '', routes: [] } };
    try {
      const whole = withChosen(created, chosen);
      return await this.joined(driver, whole, place, options);
    } catch (error) {
      await this.tried(() => driver.deleteEndpoint(network.id, endpoint.id));
      throw error;
    }
  }

  private async joined(
    driver: NetworkDriverPlugin,
    endpoint: EndpointRecord,
    place: { netnsPath: string; isTaken: (name: string) => boolean },
    options: PluginOptions,
  ): Promise<EndpointRecord> {
    const joint = await driver.join(endpoint.networkId, endpoint.id, place.netnsPath, options);
    try {
      checkJoint(joint);
      if (joint.ipv4Gateway !== undefined || joint.ipv6Gateway !== undefined) {
        await driver.publish(endpoint.networkId, endpoint.id, options);
      }
      const { source, routes, prefix, ipv4Gateway, ipv6Gateway } = joint;
      return {
        ...endpoint,
        interfaceName: source === '' ? '' : freeName(prefix || 'eth', place.isTaken),
        ...(ipv4Gateway === undefined ? {} : { ipv4Gateway }),
        ...(ipv6Gateway === undefined ? {} : { ipv6Gateway }),
        plugin: { source, routes },
      };
    } catch (error) {
      await this.tried(() => driver.leave(endpoint.networkId, endpoint.id));
      throw error;
    }
  }

  /**
   * Gives endpoints back. What a plugin says against it is reported and holds up nothing.
   *
   * @param takeOut - the kernel's part, between the driver's two.
   * @throws what `takeOut` throws, when the plugins have been told.
   */
  async leave(endpoints: readonly EndpointRecord[], takeOut: () => void): Promise<void> {
    const plugged = this.pluggedOf(endpoints);
    for (const { network, endpoint } of plugged) {
      if (endpoint.plugin === undefined) continue;
      await this.driven(network, (driver) => driver.unpublish(network.id, endpoint.id));
      await this.driven(network, (driver) => driver.leave(network.id, endpoint.id));
    }
    const failures: unknown[] = [];
    try {
      takeOut();
    } catch (error) {
      failures.push(error);
    }
    for (const { network, endpoint } of plugged) {
      if (endpoint.plugin !== undefined) await this.driven(network, (driver) => driver.deleteEndpoint(network.id, endpoint.id));
      await this.releaseAddresses(network, [endpoint.ipv4, endpoint.ipv6]);
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Gives endpoints back whose interfaces are gone, in the background. Who joins their networks waits for that. */
  leaveLater(endpoints: readonly EndpointRecord[]): void {
    if (this.telling.size === 0) this.tellUntil = Date.now() + tellingLimitMs;
    for (const { network, endpoint } of this.pluggedOf(endpoints)) {
      const told = (this.telling.get(network.id) ?? Promise.resolve()).then(async () => {
        if (Date.now() < this.tellUntil) await this.leave([endpoint], () => undefined);
        else this.options.onError(new Unavailable(`network ${network.name}: its plugin is not told that endpoint ${endpoint.id} is gone`));
        if (this.telling.get(network.id) === told) this.telling.delete(network.id);
      });
      this.telling.set(network.id, told);
    }
  }

  private pluggedOf(endpoints: readonly EndpointRecord[]): { network: NetworkRecord; endpoint: EndpointRecord }[] {
    return endpoints.flatMap((endpoint) => {
      const network = this.options.records.networks.get(endpoint.networkId);
      const hasPart = network?.plugin !== undefined || network?.subnets.some(({ poolId }) => poolId !== undefined) === true;
      return network === undefined || !hasPart ? [] : [{ network, endpoint }];
    });
  }

  /** Gives addresses back to the plugin that they are from. */
  async releaseAddresses(network: NetworkRecord, addresses: readonly (string | undefined)[]): Promise<void> {
    for (const address of addresses) {
      const poolId = address === undefined ? undefined : poolOf(network, address);
      if (address === undefined || poolId === undefined) continue;
      await this.tried(async () => (await this.options.plugins.ipam(network.ipamDriver)).releaseAddress(poolId, address));
    }
  }

  private driven(network: NetworkRecord, work: (driver: NetworkDriverPlugin) => Promise<void>): Promise<void> {
    return this.tried(async () => work(await this.options.plugins.driver(network.driver)));
  }

  private async tried(work: () => Promise<void>): Promise<void> {
    await work().catch(this.options.onError);
  }
}

function poolsFor(network: NetworkRecord, family: 4 | 6, asked: string): { poolId: string; gateway: string | undefined }[] {
  return network.subnets.flatMap(({ subnet, poolId, gateway }) => {
    if (poolId === undefined || subnet.includes(':') !== (family === 6)) return [];
    return asked === '' || holds(subnet, asked) ? [{ poolId, gateway }] : [];
  });
}

function poolOf(network: NetworkRecord, address: string): string | undefined {
  return network.subnets.find(({ subnet }) => holds(subnet, address))?.poolId;
}

function holds(subnet: string, text: string): boolean {
  const [cidr, address] = [parseCidr(subnet), parseAddress(text)];
  return cidr !== undefined && address !== undefined && contains(cidr, address.family, address.value);
}

function given({ ipv4, ipv4PrefixLength, ipv6, ipv6PrefixLength, mac }: EndpointRecord): PluginInterface {
  return {
    Address: ipv4 === undefined ? '' : `${ipv4}/${ipv4PrefixLength}`,
    AddressIPv6: ipv6 === undefined ? '' : `${ipv6}/${ipv6PrefixLength}`,
    MacAddress: mac,
  };
}

/** What the driver chose, where nothing was given to it. @throws System in dockerd's words when it chose against that. */
function withChosen(endpoint: EndpointRecord, { Address, AddressIPv6, MacAddress }: PluginInterface): EndpointRecord {
  const refuse = (what: string, present: string, chosen: string): never => {
    throw new System(
      `driver modified interface ${what}: endpoint interface ${present} present. Cannot be modified with ${chosen}.; rolled back`,
    );
  };
  if (MacAddress !== '' && endpoint.mac !== '') refuse('MAC address', `MAC address (${endpoint.mac})`, MacAddress);
  if (Address !== '' && endpoint.ipv4 !== undefined) refuse('address', `IP (${given(endpoint).Address})`, `(${Address})`);
  if (AddressIPv6 !== '' && endpoint.ipv6 !== undefined) refuse('address', `IPv6 (${given(endpoint).AddressIPv6})`, `(${AddressIPv6})`);
  const [ipv4, ipv6] = [chosenAddress(Address, 4), chosenAddress(AddressIPv6, 6)];
  return {
    ...endpoint,
    mac: MacAddress === '' ? endpoint.mac : macAddress(MacAddress, undefined),
    ...(ipv4 === undefined ? {} : { ipv4: ipv4.address, ipv4PrefixLength: ipv4.prefixLength }),
    ...(ipv6 === undefined ? {} : { ipv6: ipv6.address, ipv6PrefixLength: ipv6.prefixLength }),
  };
}

function chosenAddress(text: string, family: Family): { address: string; prefixLength: number } | undefined {
  return text === '' ? undefined : pluginAddress(text, family);
}

function checkJoint({ source, ipv4Gateway, ipv6Gateway, routes, prefix }: PluginJoint): void {
  if (source !== '' && !linkNamePattern.test(source))
    throw new System(`failed to set interface name: invalid name ${JSON.stringify(source)}`);
  if (prefix !== '' && !linkNamePattern.test(prefix))
    throw new System(`failed to set interface name: invalid prefix ${JSON.stringify(prefix)}`);
  if (ipv4Gateway !== undefined && parseAddress(ipv4Gateway)?.family !== 4) throw new System(`unable to parse Gateway "${ipv4Gateway}"`);
  if (ipv6Gateway !== undefined && parseAddress(ipv6Gateway)?.family !== 6)
    throw new System(`unable to parse GatewayIPv6 "${ipv6Gateway}"`);
  for (const { destination, gateway } of routes) {
    if (parseCidr(destination) === undefined) throw new System(`invalid CIDR address: ${destination}`);
    if (gateway !== undefined && parseAddress(gateway) === undefined) throw new System(`failed to parse nexthop IP ${gateway}`);
  }
}

/** @throws System when there is none that the kernel takes. */
function freeName(prefix: string, isTaken: (name: string) => boolean): string {
  let index = 0;
  while (isTaken(`${prefix}${index}`)) index += 1;
  const name = `${prefix}${index}`;
  if (!linkNamePattern.test(name)) throw new System(`failed to set interface name: invalid name ${JSON.stringify(name)}`);
  return name;
}

function portOptions({ exposedPorts, portBindings }: PortNeeds): PluginOptions {
  const exposed = [...new Set([...exposedPorts, ...Object.keys(portBindings)])].map((text) => {
    const { port, protocol } = parsePort(text);
    return { Proto: protocolNumbers[protocol], Port: port };
  });
  const mapped = Object.entries(portBindings).flatMap(([text, bindings]) => {
    const { port, protocol } = parsePort(text);
    return (bindings ?? []).map(({ HostIp = '', HostPort = '' }) => {
      const [first, last] = parseHostPort(HostPort) ?? [0, 0];
      return { Proto: protocolNumbers[protocol], IP: '', Port: port, HostIP: HostIp, HostPort: first, HostPortEnd: last };
    });
  });
  return { 'com.docker.network.endpoint.exposedports': exposed, 'com.docker.network.portmap': mapped };
}
