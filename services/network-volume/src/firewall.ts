/**
 * The one nftables table of ours, as text: published ports by map elements, masquerading, isolation of networks. What varies is in sets
 * and maps, so that a network or a port changes elements and never a rule.
 *
 * ```
 * prerouting -300  packets for 127/8 from anywhere but lo: dropped (route_localnet is on for our bridges)
 * prerouting dstnat, output -100   for this host's addresses: published ports → container
 * forward 0        operator's chain `user` first; then established, same network, published, outgoing; the rest to a container dropped
 * postrouting srcnat   outgoing and hairpin connections get this host's address
 * ```
 */

export interface FirewallNetwork {
  readonly bridge: string;
  /** CIDRs. */
  readonly subnets: readonly string[];
  readonly masquerade: boolean;
  readonly internal: boolean;
  readonly interContainer: boolean;
}

/** A published port with a container behind it. `hostAddress` undefined: every address of this host of that family. */
export interface PortForward {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostAddress?: string;
  readonly hostPort: number;
  readonly containerAddress: string;
  readonly containerPort: number;
}

const setNames = [
  'bridges',
  'subnets4',
  'subnets6',
  'masqueraded4',
  'masqueraded6',
  'internal',
  'talking',
  'published4',
  'published4_any',
  'published6',
  'published6_any',
] as const;

/** Everything but the elements. Applied again and again it changes nothing: each of our chains is emptied and filled in one transaction. */
export function baseRules(table: string): string {
  const chains = ['raw_prerouting', 'prerouting', 'output', 'published', 'forward', 'postrouting'];
  return `
add table inet ${table}
add chain inet ${table} user
add set inet ${table} bridges { type ifname; }
add set inet ${table} subnets4 { type ipv4_addr; flags interval; }
add set inet ${table} subnets6 { type ipv6_addr; flags interval; }
add set inet ${table} masqueraded4 { type ipv4_addr; flags interval; }
add set inet ${table} masqueraded6 { type ipv6_addr; flags interval; }
add set inet ${table} internal { type ifname; }
add set inet ${table} talking { type ifname . ifname; }
add map inet ${table} published4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
add map inet ${table} published4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet ${table} published6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
add map inet ${table} published6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
add chain inet ${table} raw_prerouting { type filter hook prerouting priority raw; policy accept; }
add chain inet ${table} prerouting { type nat hook prerouting priority dstnat; policy accept; }
add chain inet ${table} output { type nat hook output priority -100; policy accept; }
add chain inet ${table} published
add chain inet ${table} forward { type filter hook forward priority filter; policy accept; }
add chain inet ${table} postrouting { type nat hook postrouting priority srcnat; policy accept; }
${chains.map((chain) => `flush chain inet ${table} ${chain}`).join('\n')}
add rule inet ${table} raw_prerouting iifname != "lo" ip daddr 127.0.0.0/8 drop
add rule inet ${table} prerouting fib daddr type local jump published
add rule inet ${table} output fib daddr type local jump published
add rule inet ${table} published meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @published4
add rule inet ${table} published meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4_any
add rule inet ${table} published ip6 daddr ::1 return
add rule inet ${table} published meta nfproto ipv6 dnat ip6 to meta l4proto . ip6 daddr . th dport map @published6
add rule inet ${table} published meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6_any
add rule inet ${table} forward jump user
add rule inet ${table} forward iifname != @bridges oifname != @bridges accept
add rule inet ${table} forward ct state established,related accept
add rule inet ${table} forward iifname . oifname @talking accept
add rule inet ${table} forward iifname @internal drop
add rule inet ${table} forward oifname @internal drop
add rule inet ${table} forward oifname @bridges ct status dnat accept
add rule inet ${table} forward oifname @bridges drop
add rule inet ${table} postrouting oifname @bridges ct status dnat ip saddr @subnets4 masquerade
add rule inet ${table} postrouting oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
add rule inet ${table} postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule inet ${table} postrouting oifname != @bridges ip saddr @masqueraded4 masquerade
add rule inet ${table} postrouting oifname != @bridges ip6 saddr @masqueraded6 masquerade
`;
}

/** Empties all sets and maps and fills them with exactly this, for the same transaction as `baseRules`. */
export function allElements(table: string, networks: readonly FirewallNetwork[], ports: readonly PortForward[]): string {
  const flushes = setNames.map((name) => `flush ${isMap(name) ? 'map' : 'set'} inet ${table} ${name}`);
  return [
    ...flushes,
    ...networks.flatMap((network) => networkElements(table, 'add', network)),
    ...portElements(table, 'add', ports),
    '',
  ].join('\n');
}

function isMap(name: string): boolean {
  return name.startsWith('published');
}

/** Commands that make a network known to the rules, or unknown. */
export function networkElements(table: string, verb: 'add' | 'delete', network: FirewallNetwork): string[] {
  const bridge = `"${network.bridge}"`;
  const element = (set: string, value: string): string => `${verb} element inet ${table} ${set} { ${value} }`;
  return [
    element('bridges', bridge),
    ...network.subnets.flatMap((subnet) => {
      const family = subnet.includes(':') ? 6 : 4;
      const masquerades = network.masquerade && !network.internal;
      return [element(`subnets${family}`, subnet), ...(masquerades ? [element(`masqueraded${family}`, subnet)] : [])];
    }),
    ...(network.internal ? [element('internal', bridge)] : []),
    ...(network.interContainer ? [element('talking', `${bridge} . ${bridge}`)] : []),
  ];
}

/** Commands that open ports, or close them: one for each map, however many ports. */
export function portElements(table: string, verb: 'add' | 'delete', ports: readonly PortForward[]): string[] {
  const byMap = new Map<string, string[]>();
  for (const port of ports) {
    const map = `published${port.family}${port.hostAddress === undefined ? '_any' : ''}`;
    const key = [port.protocol, ...(port.hostAddress === undefined ? [] : [port.hostAddress]), port.hostPort].join(' . ');
    const element = verb === 'add' ? `${key} : ${port.containerAddress} . ${port.containerPort}` : key;
    byMap.set(map, [...(byMap.get(map) ?? []), element]);
  }
  return [...byMap].map(([map, elements]) => `${verb} element inet ${table} ${map} { ${elements.join(', ')} }`);
}
