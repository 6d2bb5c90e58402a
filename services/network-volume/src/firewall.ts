import type { BridgeOptions } from './bridgeOptions.ts';

/**
 * The one nftables table of ours, as text: published ports by map elements, masquerading, isolation of networks. What varies is in sets
 * and maps, so that a network or a port changes elements and never a rule.
 *
 * ```
 * prerouting -300  packets for 127/8 from anywhere but lo: dropped (route_localnet is on for our bridges)
 * prerouting dstnat, output -100   for this host's addresses: published ports → container
 * forward 0        operator's chain `user` first; then established, same network, published, outgoing; the rest to a container dropped
 *                  but where its network's gateway mode or trusted interfaces open it
 * postrouting srcnat   outgoing and hairpin connections get this host's address
 * ```
 */

export interface FirewallNetwork {
  readonly bridge: string;
  /** CIDRs. */
  readonly subnets: readonly string[];
  readonly masquerade: boolean;
  readonly gatewayMode: BridgeOptions['gatewayMode'];
  readonly hostAddress: BridgeOptions['hostAddress'];
  /** Interfaces of the host from which opened ports are reached. */
  readonly trusted: readonly string[];
  readonly internal: boolean;
  readonly interContainer: boolean;
}

/** A published port with a container behind it. */
export interface PortForward {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** Undefined: every address of this host of that family. */
  readonly hostAddress?: string;
  /** Undefined: no port of the host leads to it (`routed`). */
  readonly hostPort?: number;
  readonly containerAddress: string;
  readonly containerPort: number;
  /** Whether it is reached by the container's own address, from where its network allows that. */
  readonly opened: boolean;
}

const setNames = [
  'bridges',
  'subnets4',
  'subnets6',
  'masqueraded4',
  'masqueraded6',
  'snat4',
  'snat6',
  'internal',
  'talking',
  'routed4',
  'routed6',
  'unprotected4',
  'unprotected6',
  'trusted',
  'opened4',
  'opened6',
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
add map inet ${table} snat4 { type ipv4_addr : ipv4_addr; flags interval; }
add map inet ${table} snat6 { type ipv6_addr : ipv6_addr; flags interval; }
add set inet ${table} internal { type ifname; }
add set inet ${table} talking { type ifname . ifname; }
add set inet ${table} routed4 { type ifname; }
add set inet ${table} routed6 { type ifname; }
add set inet ${table} unprotected4 { type ifname; }
add set inet ${table} unprotected6 { type ifname; }
add set inet ${table} trusted { type ifname . ifname; }
add set inet ${table} opened4 { type ipv4_addr . inet_proto . inet_service; }
add set inet ${table} opened6 { type ipv6_addr . inet_proto . inet_service; }
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
add rule inet ${table} forward oifname @unprotected4 meta nfproto ipv4 accept
add rule inet ${table} forward oifname @unprotected6 meta nfproto ipv6 accept
add rule inet ${table} forward oifname @routed4 meta l4proto icmp accept
add rule inet ${table} forward oifname @routed6 meta l4proto ipv6-icmp accept
add rule inet ${table} forward oifname @routed4 ip daddr . meta l4proto . th dport @opened4 accept
add rule inet ${table} forward oifname @routed6 ip6 daddr . meta l4proto . th dport @opened6 accept
add rule inet ${table} forward iifname . oifname @trusted ip daddr . meta l4proto . th dport @opened4 accept
add rule inet ${table} forward iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @opened6 accept
add rule inet ${table} forward oifname @bridges drop
add rule inet ${table} postrouting oifname @bridges ct status dnat ip saddr @subnets4 masquerade
add rule inet ${table} postrouting oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
add rule inet ${table} postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule inet ${table} postrouting oifname != @bridges snat ip to ip saddr map @snat4
add rule inet ${table} postrouting oifname != @bridges snat ip6 to ip6 saddr map @snat6
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
  return name.startsWith('published') || name.startsWith('snat');
}

/** Commands that make a network known to the rules, or unknown. */
export function networkElements(table: string, verb: 'add' | 'delete', network: FirewallNetwork): string[] {
  const bridge = `"${network.bridge}"`;
  const element = (set: string, value: string): string => `${verb} element inet ${table} ${set} { ${value} }`;
  return [
    element('bridges', bridge),
    ...network.subnets.flatMap((subnet) => {
      const family = subnet.includes(':') ? 6 : 4;
      const leaves = network.masquerade && !network.internal && network.gatewayMode[family] !== 'routed';
      const source = network.hostAddress[family];
      const translated = source === undefined ? element(`masqueraded${family}`, subnet) : element(`snat${family}`, `${subnet} : ${source}`);
      return [element(`subnets${family}`, subnet), ...(leaves ? [translated] : [])];
    }),
    ...([4, 6] as const).flatMap((family) => {
      const mode = network.gatewayMode[family];
      if (mode === 'routed') return [element(`routed${family}`, bridge)];
      return mode === 'nat-unprotected' ? [element(`unprotected${family}`, bridge)] : [];
    }),
    ...network.trusted.map((name) => element('trusted', `${JSON.stringify(name)} . ${bridge}`)),
    ...(network.internal ? [element('internal', bridge)] : []),
    ...(network.interContainer ? [element('talking', `${bridge} . ${bridge}`)] : []),
  ];
}

/** Commands that open ports, or close them: one for each map, however many ports. */
export function portElements(table: string, verb: 'add' | 'delete', ports: readonly PortForward[]): string[] {
  const bySet = new Map<string, Set<string>>();
  const note = (set: string, element: string): void => {
    const elements = bySet.get(set) ?? new Set();
    bySet.set(set, elements.add(element));
  };
  for (const { family, protocol, hostAddress, hostPort, containerAddress, containerPort, opened } of ports) {
    if (opened) note(`opened${family}`, `${containerAddress} . ${protocol} . ${containerPort}`);
    if (hostPort === undefined) continue;
    const key = [protocol, ...(hostAddress === undefined ? [] : [hostAddress]), hostPort].join(' . ');
    const element = verb === 'add' ? `${key} : ${containerAddress} . ${containerPort}` : key;
    note(`published${family}${hostAddress === undefined ? '_any' : ''}`, element);
  }
  return [...bySet].map(([set, elements]) => `${verb} element inet ${table} ${set} { ${[...elements].join(', ')} }`);
}

/** How many elements they are. */
export function portElementCount(ports: readonly PortForward[]): number {
  const opened = ports.filter((port) => port.opened).map((port) => `${port.containerAddress}/${port.protocol}/${port.containerPort}`);
  return ports.filter(({ hostPort }) => hostPort !== undefined).length + new Set(opened).size;
}
