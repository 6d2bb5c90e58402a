/** What this service knows for `docker info`. */
import { readFileSync } from 'node:fs';
import type { EngineOptions } from '@flotilla/service-kit';

export interface NetworkInfo {
  readonly Plugins: { readonly Volume: string[]; readonly Network: string[] };
  readonly DefaultAddressPools?: readonly { readonly Base: string; readonly Size: number }[];
  readonly IPv4Forwarding: boolean;
  readonly BridgeNfIptables: boolean;
  readonly BridgeNfIp6tables: boolean;
  readonly Warnings: readonly string[];
}

const builtInDrivers = ['bridge', 'host', 'ipvlan', 'macvlan', 'null'];

function isOn(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').trim() === '1';
  } catch {
    return false;
  }
}

/**
 * @param drivers.network - those that networks use.
 * @param defaultBridge - its interface: another than docker0 means that a real dockerd is beside us.
 * @param jumps - the host's chains that hold our jump (forwardRules.ts).
 */
export function networkInfo(
  options: EngineOptions,
  drivers: { readonly volume: string[]; readonly network: readonly string[] },
  defaultBridge: string,
  jumps: readonly string[],
): NetworkInfo {
  const forwarding = isOn('/proc/sys/net/ipv4/ip_forward');
  return {
    Plugins: { Volume: drivers.volume, Network: [...new Set([...builtInDrivers, ...drivers.network])].sort() },
    ...(options.defaultAddressPools.length === 0
      ? {}
      : { DefaultAddressPools: options.defaultAddressPools.map(({ base, size }) => ({ Base: base, Size: size })) }),
    IPv4Forwarding: forwarding,
    BridgeNfIptables: isOn('/proc/sys/net/bridge/bridge-nf-call-iptables'),
    BridgeNfIp6tables: isOn('/proc/sys/net/bridge/bridge-nf-call-ip6tables'),
    Warnings: [
      ...(forwarding ? [] : ['WARNING: IPv4 forwarding is disabled']),
      ...(defaultBridge === 'docker0' || defaultBridge === ''
        ? []
        : [`WARNING: docker0 belongs to another engine: the default bridge is ${defaultBridge}`]),
      ...jumps.map((chain) => `WARNING: this host drops forwarded packets: chain ${chain} has a jump to FLOTILLA-FORWARD`),
    ],
  };
}
