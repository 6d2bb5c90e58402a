/** Rules of one endpoint: what may be asked of it, its MAC address, the names it is found by. Pure. */
import { randomBytes } from 'node:crypto';
import { type EndpointSettings, shortId } from '@flotilla/engine-api';
import { Forbidden, InvalidParameter } from '@flotilla/errors';
import { contains, parseAddress, parseCidr } from './cidr.ts';
import { joinMistakes } from './ipam.ts';
import { type NetworkRecord, predefinedNames, writtenAndChosen } from './network.ts';

/** @throws InvalidParameter that names every mistake, in dockerd's words. */
export function checkEndpoint(network: NetworkRecord, wish: EndpointSettings): void {
  if (network.configOnly === true) throw new Forbidden('cannot create endpoint on configuration-only network');
  const mistakes = [...addressMistakes(network, wish)];
  if (predefinedNames.includes(network.name) && (wish.Aliases ?? []).length > 0) {
    mistakes.push('network-scoped aliases are only supported for user-defined networks');
  }
  if (wish.MacAddress && !/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(wish.MacAddress)) {
    mistakes.push(`invalid MAC address: ${wish.MacAddress}`);
  }
  mistakes.push(...sysctlMistakes(wish));
  if (mistakes.length > 0) {
    throw new InvalidParameter(`invalid config for network ${network.name}: invalid endpoint settings:\n${joinMistakes(mistakes)}`);
  }
}

/** `net.X.Y.IFNAME.Z=V`, several with commas between; IFNAME stands for whatever the interface is called. */
const sysctlsOption = 'com.docker.network.endpoint.sysctls';
/** What the interface is to be called. */
export const interfaceNameOption = 'com.docker.network.endpoint.ifname';

function sysctlTexts(wish: EndpointSettings): string[] {
  const text = wish.DriverOpts?.[sysctlsOption];
  return text === undefined ? [] : text.split(',');
}

const sysctlPattern = /^(net)\.(ipv4|ipv6|mpls)\.([^.]*)\.(?:IFNAME|ifname)\.([^=]+)(?:=(.*))?$/;

function sysctlMistakes(wish: EndpointSettings): string[] {
  return sysctlTexts(wish)
    .filter((text) => !sysctlPattern.test(text))
    .map(
      (text) =>
        `unrecognised network interface sysctl '${text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
    );
}

/** The settings of an endpoint's interface, by their path below /proc/sys. */
export function endpointSysctls(wish: EndpointSettings, interfaceName: string): Record<string, string> {
  return Object.fromEntries(
    sysctlTexts(wish).flatMap((text) => {
      const [, net = '', family = '', kind = '', rest = '', value = ''] = sysctlPattern.exec(text) ?? [];
      return net === '' ? [] : [[[net, family, kind, interfaceName, ...rest.split('.')].join('/'), value]];
    }),
  );
}

function addressMistakes(network: NetworkRecord, wish: EndpointSettings): string[] {
  const mistakes: string[] = [];
  for (const [family, text] of [
    [4, wish.IPAMConfig?.IPv4Address ?? ''],
    [6, wish.IPAMConfig?.IPv6Address ?? ''],
  ] as const) {
    if (text === '') continue;
    if (predefinedNames.includes(network.name)) {
      mistakes.push('user specified IP address is supported on user defined networks only');
      continue;
    }
    const address = parseAddress(text);
    if (address?.family !== family) {
      mistakes.push(`invalid IPv${family} address: ${text}`);
      continue;
    }
    const ofFamily = writtenAndChosen(network).filter(({ subnet }) => parseCidr(subnet)?.family === family);
    if (!ofFamily.some(({ configured }) => configured)) {
      mistakes.push('user specified IP address is supported only when connecting to networks with user configured subnets');
    } else if (!ofFamily.some(({ subnet }) => holds(subnet, family, address.value))) {
      mistakes.push(`no configured subnet or ip-range contain the IP address ${text}`);
    }
  }
  for (const text of wish.IPAMConfig?.LinkLocalIPs ?? []) {
    if (parseAddress(text) === undefined) mistakes.push(`invalid link-local IP address: ${text}`);
  }
  return mistakes;
}

function holds(subnet: string, family: 4 | 6, address: bigint): boolean {
  const cidr = parseCidr(subnet);
  return cidr !== undefined && contains(cidr, family, address);
}

/** The wished one, else 02:42 and the IPv4 address: the same address always has the same MAC, so no neighbour's table is ever wrong. */
export function macAddress(wished: string | undefined, ipv4: string | undefined): string {
  if (wished) return wished.toLowerCase().replaceAll('-', ':');
  const tail = ipv4 === undefined ? [...randomBytes(4)] : ipv4.split('.').map(Number);
  return ['02', '42', ...tail.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** Names by which others on a user-made network find a container, without doubles. */
export function dnsNames(container: { containerName: string; containerId: string; hostname: string }, wish: EndpointSettings): string[] {
  const names = [container.containerName, ...(wish.Aliases ?? []), shortId(container.containerId), container.hostname];
  return [...new Set(names.filter((name) => name !== ''))];
}
