/** Published and exposed ports, and `--add-host`. */
import { isIP } from 'node:net';
import type { PortBinding } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

const protocols = ['tcp', 'udp', 'sctp'];

/** @throws InvalidParameter */
export function checkPortBindings(bindings: Record<string, readonly PortBinding[]>): void {
  for (const [port, published] of Object.entries(bindings)) {
    checkExposedPort(port);
    for (const { HostPort: hostPort = '', HostIp: hostIp = '' } of published) {
      if (hostPort !== '' && !isPortRange(hostPort.split('/')[0] ?? '')) throw invalid(hostPort);
      if (hostIp !== '' && isIP(hostIp.replace(/^\[(.*)\]$/, '$1')) === 0) throw new InvalidParameter(`invalid IP address: ${hostIp}`);
    }
  }
}

/** `80`, `80/tcp`, `8000-8010/udp`. @throws InvalidParameter */
export function checkExposedPort(port: string): void {
  const [number = '', protocol = 'tcp', ...more] = port.split('/');
  if (!isPortRange(number) || more.length > 0) throw invalid(number);
  if (protocol !== '' && !protocols.includes(protocol.toLowerCase())) throw new InvalidParameter(`invalid proto: ${protocol}`);
}

function invalid(port: string): InvalidParameter {
  return new InvalidParameter(`invalid port specification: ${JSON.stringify(port)}`);
}

function isPortRange(text: string): boolean {
  const ports = text.split('-').map((part) => (/^\d{1,5}$/.test(part) ? Number(part) : Number.NaN));
  const [first = Number.NaN, last = first] = ports;
  return ports.length <= 2 && first <= last && last <= 65_535;
}

/** `name:address` or `name=address`; the address may be `host-gateway`. @throws InvalidParameter */
export function checkExtraHost(entry: string): void {
  const at = entry.includes('=') ? entry.indexOf('=') : entry.indexOf(':');
  if (at <= 0) throw new InvalidParameter(`bad format for add-host: ${JSON.stringify(entry)}`);
  const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
  if (address !== 'host-gateway' && isIP(address) === 0)
    throw new InvalidParameter(`invalid IP address in add-host: ${JSON.stringify(address)}`);
}
