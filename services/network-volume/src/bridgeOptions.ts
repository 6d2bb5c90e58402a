/** What the `com.docker.network.…` options say of a bridge network, in dockerd's words where they cannot be. Pure. */
import { goBoolean, notGoBoolean } from '@flotilla/engine-api';
import { InvalidParameter, System } from '@flotilla/errors';
import { addressText, type Family, parseAddress } from './cidr.ts';

/**
 * How a network's containers are reached from elsewhere, for each family of addresses:
 *
 * - `nat`: by published ports of the host.
 * - `nat-unprotected`: those, and by their own addresses, all ports.
 * - `routed`: by their own addresses, published ports only; the host translates nothing.
 * - `isolated`: not at all, nor by the host: the bridge has no address. For internal networks.
 */
export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated';

const gatewayModes: readonly GatewayMode[] = ['nat', 'nat-unprotected', 'routed', 'isolated'];

export interface BridgeOptions {
  readonly name?: string;
  readonly interContainer: boolean;
  readonly masquerade: boolean;
  readonly gatewayMode: Readonly<Record<Family, GatewayMode>>;
  /** The bridge has no IPv4 address: something else on it has the gateway's. */
  readonly inhibitIPv4: boolean;
  /** From there published ports are also reached by containers' own addresses. */
  readonly trustedHostInterfaces: readonly string[];
  /** What leaves the network has this address of the host, where it is masqueraded. */
  readonly hostAddress: { readonly 4?: string; readonly 6?: string };
  /** Where ports of its containers are published when no address is given. */
  readonly hostBinding?: string;
  readonly mtu?: number;
  /** Names of the interfaces inside: this and a number. */
  readonly interfacePrefix: string;
}

const bridge = 'com.docker.network.bridge';
const optionNames = {
  name: `${bridge}.name`,
  interContainer: `${bridge}.enable_icc`,
  masquerade: `${bridge}.enable_ip_masquerade`,
  gatewayMode4: `${bridge}.gateway_mode_ipv4`,
  gatewayMode6: `${bridge}.gateway_mode_ipv6`,
  inhibitIPv4: `${bridge}.inhibit_ipv4`,
  trustedHostInterfaces: `${bridge}.trusted_host_interfaces`,
  defaultBridge: `${bridge}.default_bridge`,
  hostBinding: `${bridge}.host_binding_ipv4`,
  hostAddress4: 'com.docker.network.host_ipv4',
  hostAddress6: 'com.docker.network.host_ipv6',
  mtu: 'com.docker.network.driver.mtu',
  interfacePrefix: 'com.docker.network.container_iface_prefix',
} as const;

type Options = Readonly<Record<string, string>>;

/** Narrower than the kernel's: such a name means itself in the packet filter too. */
const interfaceName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/;

/** @throws InvalidParameter for a value that cannot be. Options nobody knows are kept and mean nothing, as with dockerd. */
export function bridgeOptions(options: Options): BridgeOptions {
  const name = options[optionNames.name];
  const trusted = (options[optionNames.trustedHostInterfaces] ?? '').split(':').filter((one) => one !== '');
  for (const one of name === undefined ? trusted : [name, ...trusted]) {
    if (!interfaceName.test(one)) throw new InvalidParameter(`invalid interface name: "${one}"`);
  }
  booleanOption(options, optionNames.defaultBridge, false);
  const [host4, host6] = [addressOption(options, optionNames.hostAddress4, 4), addressOption(options, optionNames.hostAddress6, 6)];
  const hostBinding = addressOption(options, optionNames.hostBinding);
  const mtu = mtuOption(options);
  return {
    ...(name === undefined ? {} : { name }),
    interContainer: booleanOption(options, optionNames.interContainer, true),
    masquerade: booleanOption(options, optionNames.masquerade, true),
    gatewayMode: { 4: gatewayMode(options, optionNames.gatewayMode4), 6: gatewayMode(options, optionNames.gatewayMode6) },
    inhibitIPv4: booleanOption(options, optionNames.inhibitIPv4, false),
    trustedHostInterfaces: trusted,
    hostAddress: { ...(host4 === undefined ? {} : { 4: host4 }), ...(host6 === undefined ? {} : { 6: host6 }) },
    ...(hostBinding === undefined ? {} : { hostBinding }),
    ...(mtu === undefined ? {} : { mtu }),
    interfacePrefix: options[optionNames.interfacePrefix] || 'eth',
  };
}

/** @throws System for options that do not go with the network they are for. */
export function checkGatewayModes({ gatewayMode: modes }: BridgeOptions, internal: boolean): void {
  if (!internal && Object.values(modes).includes('isolated')) {
    throw new System("gateway mode 'isolated' can only be used for an internal network");
  }
}

/** Whether nobody needs a gateway's address: the bridge has none, and no route leads there. */
export function skipsGateway({ gatewayMode: modes, inhibitIPv4 }: BridgeOptions, family: Family, internal: boolean): boolean {
  return modes[family] === 'isolated' || (family === 4 && inhibitIPv4 && internal);
}

function refusal(name: string, value: string, reason: string): InvalidParameter {
  return new InvalidParameter(`failed to parse ${name} value: ${value} (${reason})`);
}

function booleanOption(options: Options, name: string, otherwise: boolean): boolean {
  const value = options[name];
  if (value === undefined) return otherwise;
  const parsed = goBoolean(value);
  if (parsed === undefined) throw refusal(name, value, notGoBoolean(value));
  return parsed;
}

function gatewayMode(options: Options, name: string): GatewayMode {
  const value = options[name];
  if (value === undefined) return 'nat';
  const mode = gatewayModes.find((one) => one === value);
  if (mode === undefined) throw refusal(name, value, `unknown gateway mode ${value}`);
  return mode;
}

function addressOption(options: Options, name: string, family?: Family): string | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  const address = parseAddress(value);
  if (address === undefined || address.family !== (family ?? address.family)) throw refusal(name, value, 'nil ip');
  return addressText(address.family, address.value);
}

function mtuOption(options: Options): number | undefined {
  const value = options[optionNames.mtu];
  if (value === undefined) return undefined;
  if (!/^[+-]?\d+$/.test(value)) throw refusal(optionNames.mtu, value, `strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`);
  if (Number(value) < 0) throw new InvalidParameter(`invalid MTU number: ${Number(value)}`);
  return Number(value) === 0 ? undefined : Number(value);
}
