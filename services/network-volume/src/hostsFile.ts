/** /etc/hosts of a container. Pure. */

export interface HostsEntry {
  readonly address: string;
  readonly names: readonly string[];
}

const standard: readonly HostsEntry[] = [
  { address: '127.0.0.1', names: ['localhost'] },
  { address: '::1', names: ['localhost', 'ip6-localhost', 'ip6-loopback'] },
  { address: 'fe00::', names: ['ip6-localnet'] },
  { address: 'ff00::', names: ['ip6-mcastprefix'] },
  { address: 'ff02::1', names: ['ip6-allnodes'] },
  { address: 'ff02::2', names: ['ip6-allrouters'] },
];

/** @param entries - links and `--add-host`, then the container's own addresses, as dockerd orders them. */
export function hostsFile(entries: readonly HostsEntry[], hasIPv6 = true): string {
  const first = hasIPv6 ? standard : standard.filter(({ address }) => !address.includes(':'));
  return [...first, ...entries].map(({ address, names }) => `${address}\t${names.join(' ')}\n`).join('');
}

/** The file after a change of what it should hold: lines that are new come last, those that are no more go, and what somebody else wrote stays. Idempotent. */
export function changedHosts(text: string, before: string, now: string): string {
  const [old, wanted] = [before.split('\n'), now.split('\n')];
  const gone = old.filter((line) => !wanted.includes(line));
  const kept = text.split('\n').filter((line) => !gone.includes(line));
  const added = wanted.filter((line) => !old.includes(line) && !kept.includes(line));
  const whole = kept.join('\n');
  return added.length === 0 ? whole : `${whole.replace(/([^\n])$/, '$1\n')}${added.join('\n')}\n`;
}

/** The names a container's own address is known by: `name.domain name`, of which the hostname may hold the domain too. */
export function ownNames(hostname: string, domainname: string): string[] {
  const full = domainname === '' ? hostname : `${hostname}.${domainname}`;
  const dot = full.indexOf('.');
  return dot < 0 ? [full] : [full, full.slice(0, dot)];
}

/** One `name:address` of `--add-host`, IPv6 with or without brackets. */
export function parseExtraHost(text: string): { name: string; address: string } | undefined {
  const split = /^([^:=]+)[:=](.+)$/.exec(text);
  if (split === null) return undefined;
  const [, name = '', address = ''] = split;
  return { name, address: address.replace(/^\[(.*)\]$/, '$1') };
}
