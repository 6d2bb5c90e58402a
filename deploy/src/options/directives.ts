/**
 * Every setting of `flotilla up`, once: its flag (dockerd's name where the thing is the same), its key in daemon.json and its shape. Flags and file are
 * both read into the file's shape, so that what follows (conflicts, checks) sees one thing.
 */
import { InvalidParameter } from '@flotilla/errors/classes';

export type DirectiveKind = 'string' | 'boolean' | 'number' | 'list' | 'map' | 'mapOfMaps' | 'pools' | 'ulimits' | 'runtimes';

export interface Directive {
  /** Key in daemon.json; undefined: flag only. */
  readonly key: string;
  readonly kind: DirectiveKind;
  /** As commander writes it. */
  readonly flag: string;
  readonly help: string;
}

export const directives: readonly Directive[] = [
  {
    key: 'hosts',
    kind: 'list',
    flag: '-H, --host <address>',
    help: 'where the gateway listens: unix://PATH, tcp://HOST:PORT or fd:// (repeatable)',
  },
  { key: 'group', kind: 'string', flag: '-G, --group <name>', help: 'group that owns the unix sockets (default: docker)' },
  { key: 'registry-mirrors', kind: 'list', flag: '--registry-mirror <url>', help: 'preferred mirror of docker.io (repeatable)' },
  {
    key: 'insecure-registries',
    kind: 'list',
    flag: '--insecure-registry <host>',
    help: 'registry or CIDR spoken to without TLS checks (repeatable)',
  },
  { key: 'upstreams', kind: 'string', flag: '--upstreams <file>', help: 'upstream registries (JSON): mirrors, certificates, credentials' },
  { key: 'registry-proxy', kind: 'string', flag: '--registry-proxy <url>', help: "use another host's registry-proxy" },
  { key: 'tls', kind: 'boolean', flag: '--tls [bool]', help: 'use TLS on tcp sockets; implied by --tlsverify' },
  { key: 'tlsverify', kind: 'boolean', flag: '--tlsverify [bool]', help: 'use TLS and verify the client' },
  { key: 'tlscacert', kind: 'string', flag: '--tlscacert <file>', help: 'trust client certificates signed by this CA' },
  { key: 'tlscert', kind: 'string', flag: '--tlscert <file>', help: "the server's certificate" },
  { key: 'tlskey', kind: 'string', flag: '--tlskey <file>', help: "the server's key" },
  {
    key: 'insecure-tcp',
    kind: 'boolean',
    flag: '--insecure-tcp [bool]',
    help: 'allow tcp sockets without TLS: whoever reaches them is root on this host',
  },
  { key: 'policy-file', kind: 'string', flag: '--policy-file <file>', help: 'who may do what (JSON); without it all may do all' },
  { key: 'hosts-file', kind: 'string', flag: '--hosts-file <file>', help: 'other engines (JSON) that are reached below /hosts/NAME' },
  { key: 'audit-log', kind: 'string', flag: '--audit-log <file>', help: 'write who did what with which result, one JSON object a line' },
  { key: 'bridge', kind: 'string', flag: '-b, --bridge <name>', help: 'bridge made by hand that the default network uses, or none' },
  { key: 'bip', kind: 'string', flag: '--bip <cidr>', help: 'address and size of the default bridge' },
  { key: 'fixed-cidr', kind: 'string', flag: '--fixed-cidr <cidr>', help: 'range the default bridge gives addresses from' },
  { key: 'ipv6', kind: 'boolean', flag: '--ipv6 [bool]', help: 'the default bridge has IPv6 too' },
  {
    key: 'fixed-cidr-v6',
    kind: 'string',
    flag: '--fixed-cidr-v6 <cidr>',
    help: 'IPv6 subnet of the default bridge (default: one of the pools)',
  },
  {
    key: 'default-gateway',
    kind: 'string',
    flag: '--default-gateway <address>',
    help: 'IPv4 router of the default bridge, when not the bridge itself',
  },
  { key: 'default-gateway-v6', kind: 'string', flag: '--default-gateway-v6 <address>', help: 'its IPv6 router' },
  { key: 'mtu', kind: 'number', flag: '--mtu <bytes>', help: 'MTU of the default bridge' },
  { key: 'icc', kind: 'boolean', flag: '--icc [bool]', help: 'containers on the default bridge reach each other (default: true)' },
  { key: 'ip-forward', kind: 'boolean', flag: '--ip-forward [bool]', help: 'let this host forward packets (default: true)' },
  {
    key: 'ip-masq',
    kind: 'boolean',
    flag: '--ip-masq [bool]',
    help: "hide the default bridge's addresses behind the host's (default: true)",
  },
  {
    key: 'iptables',
    kind: 'boolean',
    flag: '--iptables [bool]',
    help: 'write packet filter rules (default: true); without them no port can be published',
  },
  {
    key: 'host-gateway-ips',
    kind: 'list',
    flag: '--host-gateway-ip <address>',
    help: 'what host-gateway stands for (default: the default bridge)',
  },
  {
    key: 'default-network-opts',
    kind: 'mapOfMaps',
    flag: '--default-network-opt <driver=key=value>',
    help: 'option of new networks of a driver that give none (repeatable)',
  },
  { key: 'http-proxy', kind: 'string', flag: '--http-proxy <url>', help: 'proxy for pulls and pushes by http' },
  { key: 'https-proxy', kind: 'string', flag: '--https-proxy <url>', help: 'proxy for pulls and pushes by https' },
  { key: 'no-proxy', kind: 'string', flag: '--no-proxy <hosts>', help: 'hosts, domains and CIDRs reached without a proxy, by commas' },
  { key: 'ip', kind: 'string', flag: '--ip <address>', help: 'address that ports are published on (default: 0.0.0.0)' },
  {
    key: 'default-address-pools',
    kind: 'pools',
    flag: '--default-address-pool <pool>',
    help: 'base=CIDR,size=BITS that networks are cut from (repeatable)',
  },
  { key: 'dns', kind: 'list', flag: '--dns <address>', help: 'DNS server for containers (repeatable)' },
  { key: 'dns-search', kind: 'list', flag: '--dns-search <domain>', help: 'DNS search domain for containers (repeatable)' },
  { key: 'dns-opts', kind: 'list', flag: '--dns-opt <option>', help: 'resolver option for containers (repeatable)' },
  { key: 'log-driver', kind: 'string', flag: '--log-driver <name>', help: 'log driver of containers: json-file, local or none' },
  { key: 'log-opts', kind: 'map', flag: '--log-opt <key=value>', help: 'default log option of containers (repeatable)' },
  { key: 'labels', kind: 'list', flag: '--label <key=value>', help: 'label of the engine (repeatable)' },
  { key: 'runtimes', kind: 'runtimes', flag: '--add-runtime <name=path>', help: 'register an OCI runtime (repeatable)' },
  { key: 'default-runtime', kind: 'string', flag: '--default-runtime <name>', help: 'runtime of containers that name none' },
  {
    key: 'default-ulimits',
    kind: 'ulimits',
    flag: '--default-ulimit <name=soft:hard>',
    help: 'ulimit of containers that give none (repeatable)',
  },
  {
    key: 'max-concurrent-downloads',
    kind: 'number',
    flag: '--max-concurrent-downloads <n>',
    help: 'layers fetched at once by a pull (default: 3)',
  },
  {
    key: 'max-concurrent-uploads',
    kind: 'number',
    flag: '--max-concurrent-uploads <n>',
    help: 'layers sent at once by a push (default: 5)',
  },
  {
    key: 'image-gc-high',
    kind: 'number',
    flag: '--image-gc-high <percent>',
    help: 'remove unused images, least recently used first, when the disk is fuller (default: never)',
  },
  {
    key: 'image-gc-low',
    kind: 'number',
    flag: '--image-gc-low <percent>',
    help: 'stop removing them when the disk is emptier (default: 10 below --image-gc-high)',
  },
  {
    key: 'shutdown-timeout',
    kind: 'number',
    flag: '--shutdown-timeout <seconds>',
    help: 'how long services may take to stop (default: 15)',
  },
  { key: 'storage-opts', kind: 'list', flag: '--storage-opt <key=value>', help: 'storage option (repeatable)' },
  { key: 'init', kind: 'boolean', flag: '--init [bool]', help: 'an init process in containers that do not say' },
  {
    key: 'default-shm-size',
    kind: 'string',
    flag: '--default-shm-size <bytes>',
    help: '/dev/shm of containers that do not say (default: 64M)',
  },
  { key: 'default-ipc-mode', kind: 'string', flag: '--default-ipc-mode <mode>', help: 'private (default) or shareable' },
  {
    key: 'default-cgroupns-mode',
    kind: 'string',
    flag: '--default-cgroupns-mode <mode>',
    help: 'host or private (default: private with cgroup v2)',
  },
  {
    key: 'no-new-privileges',
    kind: 'boolean',
    flag: '--no-new-privileges [bool]',
    help: 'containers that do not say cannot gain privileges by what they execute',
  },
  {
    key: 'seccomp-profile',
    kind: 'string',
    flag: '--seccomp-profile <path>',
    help: "profile of containers that name none: a JSON file, or unconfined (default: Docker's own)",
  },
  { key: 'pidfile', kind: 'string', flag: '-p, --pidfile <path>', help: "where the supervisor's process id is written" },
  { key: 'cgroup-parent', kind: 'string', flag: '--cgroup-parent <path>', help: 'parent cgroup of containers' },
  { key: 'compact', kind: 'boolean', flag: '--compact [bool]', help: 'run the five services in one process: less memory, no replicas' },
  { key: 'debug', kind: 'boolean', flag: '-D, --debug [bool]', help: 'log at debug level' },
  { key: 'log-level', kind: 'string', flag: '-l, --log-level <level>', help: 'debug, info, warn, error or fatal (default: info)' },
];

/** Settings in daemon.json's shape: only what was given. */
export type RawSettings = ReadonlyMap<string, unknown>;

/** The name commander gives an option's value: `--registry-mirror <url>` → `registryMirror`. */
export function optionName(directive: Directive): string {
  const long = /--([a-z0-9-]+)/.exec(directive.flag)?.[1] ?? directive.key;
  return long.replaceAll(/-([a-z])/g, (_match, letter: string) => letter.toUpperCase());
}

/** What a flag's words mean, in the file's shape. `words` holds every use of the flag, in order. */
export function readFlag(directive: Directive, words: readonly (string | true)[]): unknown {
  const last = words.at(-1);
  const texts = words.filter((word) => word !== true);
  const flag = /--[a-z0-9-]+/.exec(directive.flag)?.[0] ?? directive.flag;
  switch (directive.kind) {
    case 'string':
      return last;
    case 'boolean':
      return readBoolean(flag, last ?? true);
    case 'number':
      return readNumber(flag, String(last));
    case 'list':
      return texts;
    case 'map':
      return Object.fromEntries(texts.map((text) => keyValue(flag, text)));
    case 'mapOfMaps':
      return readMapOfMaps(flag, texts);
    case 'pools':
      return texts.map((text) => readPool(flag, text));
    case 'ulimits':
      return Object.fromEntries(texts.map(readUlimit).map((ulimit) => [ulimit.Name, ulimit]));
    case 'runtimes':
      return Object.fromEntries(texts.map((text) => keyValue(flag, text)).map(([name, path]) => [name, { path }]));
  }
}

function readBoolean(flag: string, word: string | true): boolean {
  if (word === true || /^(1|t|true)$/i.test(word)) return true;
  if (/^(0|f|false)$/i.test(word)) return false;
  throw new InvalidParameter(`invalid argument "${word}" for "${flag}" flag: must be true or false`);
}

function readNumber(flag: string, word: string): number {
  if (!/^-?\d+$/.test(word)) throw new InvalidParameter(`invalid argument "${word}" for "${flag}" flag: must be a whole number`);
  return Number(word);
}

function keyValue(flag: string, text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: must be key=value`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function readMapOfMaps(flag: string, texts: readonly string[]): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {};
  for (const text of texts) {
    const [name, rest] = keyValue(flag, text);
    const [key, value] = keyValue(flag, rest);
    found[name] = { ...found[name], [key]: value };
  }
  return found;
}

function readPool(flag: string, text: string): { base: string; size: number } {
  const fields = new Map(text.split(',').map((field) => keyValue(flag, field.trim())));
  const base = fields.get('base');
  const size = fields.get('size');
  const other = [...fields.keys()].find((name) => name !== 'base' && name !== 'size');
  if (other !== undefined)
    throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: unexpected key '${other}' in '${text}'`);
  if (base === undefined || size === undefined || !/^\d+$/.test(size)) {
    throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: must be base=CIDR,size=BITS`);
  }
  return { base, size: Number(size) };
}

const ulimitNames = new Set('core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '));

export interface Ulimit {
  readonly Name: string;
  readonly Hard: number;
  readonly Soft: number;
}

/** `name=soft[:hard]`, with dockerd's refusals. */
export function readUlimit(text: string): Ulimit {
  const match = /^([^=]+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
  if (match === null) throw new InvalidParameter(`invalid ulimit argument: ${text}`);
  const [, name = '', soft = '', hard = soft] = match;
  if (!ulimitNames.has(name)) throw new InvalidParameter(`invalid ulimit type: ${name}`);
  const ulimit = { Name: name, Hard: Number(hard), Soft: Number(soft) };
  if (ulimit.Hard !== -1 && (ulimit.Soft > ulimit.Hard || ulimit.Soft === -1)) {
    throw new InvalidParameter(`ulimit soft limit must be less than or equal to hard limit: ${ulimit.Soft} > ${ulimit.Hard}`);
  }
  return ulimit;
}
