/** From flags and daemon.json to what a stack is started with: every value checked before anything is touched. */
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { errorMessage, InvalidParameter } from '@flotilla/errors/classes';
import type { EngineOptions } from '@flotilla/service-kit';
import { resolveHosts } from '@flotilla/service-kit/hosts';
import { Policy } from '@flotilla/service-kit/rights';
import { defaultConfigFile, mergeSettings, readDaemonFile } from './daemonFile.ts';
import type { RawSettings, Ulimit } from './directives.ts';
import { unmetDirective } from './fixedDirectives.ts';
import { formatHost, type Host, parseHost } from './hosts.ts';

export const defaultDataRoot = '/var/lib/flotilla';
export const defaultExecRoot = '/run/flotilla';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

/** What the operator asked for, checked. */
export interface StackSettings {
  readonly dataRoot: string;
  readonly execRoot: string;
  /** As given; empty: the default sockets. */
  readonly hosts: readonly Host[];
  readonly group: string;
  /** The group was named by the operator, so it must exist. */
  readonly groupGiven: boolean;
  readonly tls: TlsFiles | undefined;
  /** The operator's policy, checked; the stack gives its services a copy. */
  readonly policyFile: string | undefined;
  /** The operator's file of other hosts, checked; the gateway gets a copy with the certificates in it. */
  readonly hostsFile: string | undefined;
  readonly logLevel: LogLevel;
  readonly shutdownTimeoutSeconds: number;
  /** The five services in one process. */
  readonly compact: boolean;
  /** Where the supervisor writes its process id. */
  readonly pidFile: string | undefined;
  /** For the services; `tls` holds the operator's paths until the stack has made the copies that the gateway may read. */
  readonly engineOptions: Partial<EngineOptions>;
}

export interface TlsFiles {
  readonly verify: boolean;
  readonly caCert: string | undefined;
  readonly cert: string;
  readonly key: string;
}

/**
 * Reads the configuration file (the given one, or the default where it exists) and puts the flags over it.
 *
 * @throws InvalidParameter in dockerd's words.
 */
export function loadSettings(flags: RawSettings, configFile: string | undefined): StackSettings {
  const path = configFile ?? defaultConfigFile;
  const file: RawSettings = configFile !== undefined || existsSync(path) ? readDaemonFile(path) : new Map();
  return checkSettings(mergeSettings(flags, file, path));
}

/** @throws InvalidParameter for the first value that cannot be right. */
export function checkSettings(raw: RawSettings): StackSettings {
  const text = (key: string): string | undefined => raw.get(key) as string | undefined;
  const list = (key: string): string[] => (raw.get(key) as string[] | undefined) ?? [];
  const flag = (key: string): boolean | undefined => raw.get(key) as boolean | undefined;
  const number = (key: string): number | undefined => raw.get(key) as number | undefined;

  const unmet = unmetDirective(raw);
  if (unmet !== undefined) {
    const [{ flag, help }, value] = unmet;
    throw new InvalidParameter(`${/--[a-z0-9-]+/.exec(flag)?.[0]}=${String(value)} is not supported: ${help}`);
  }
  const tls = checkTls(raw);
  const hosts = list('hosts').map((host) => parseHost(host, tls !== undefined));
  const openTcp = hosts.find((host) => host.kind === 'tcp');
  if (openTcp !== undefined && tls === undefined && flag('insecure-tcp') !== true) {
    throw new InvalidParameter(
      `${formatHost(openTcp)} without TLS gives root on this host to whoever reaches it: add --tlsverify with --tlscacert, --tlscert and --tlskey, or say --insecure-tcp`,
    );
  }
  const runtimes = checkRuntimes(raw);
  const defaultRuntime = text('default-runtime');
  if (defaultRuntime !== undefined && !['runc', 'crun', ...Object.keys(runtimes)].includes(defaultRuntime)) {
    throw new InvalidParameter(`specified default runtime '${defaultRuntime}' does not exist`);
  }
  const debug = flag('debug') === true;
  const logDriver = checkLogDriver(text('log-driver'));

  const engineOptions: Partial<EngineOptions> = {
    registryMirrors: list('registry-mirrors').map(checkMirror),
    insecureRegistries: list('insecure-registries').map(checkInsecureRegistry),
    registryProxy: text('registry-proxy') === undefined ? undefined : checkHttpUrl('--registry-proxy', text('registry-proxy') ?? ''),
    bridge: checkBridge(raw),
    bip: text('bip') === undefined ? undefined : checkCidr('--bip', text('bip') ?? ''),
    fixedCidr: text('fixed-cidr') === undefined ? undefined : checkCidr('--fixed-cidr', text('fixed-cidr') ?? ''),
    ipv6: flag('ipv6'),
    fixedCidrV6: text('fixed-cidr-v6') === undefined ? undefined : checkCidr('--fixed-cidr-v6', text('fixed-cidr-v6') ?? '', 6),
    defaultGateway: text('default-gateway') === undefined ? undefined : checkIp(text('default-gateway') ?? '', 4),
    defaultGatewayV6: text('default-gateway-v6') === undefined ? undefined : checkIp(text('default-gateway-v6') ?? '', 6),
    mtu: checkMtu(number('mtu')),
    icc: flag('icc'),
    ipForward: flag('ip-forward'),
    ipMasq: flag('ip-masq'),
    iptables: checkIptables(flag('iptables'), flag('icc')),
    hostGatewayIps: checkHostGateways(list('host-gateway-ips')),
    defaultNetworkOptions: (raw.get('default-network-opts') as Record<string, Record<string, string>> | undefined) ?? {},
    httpProxy: checkProxy('HTTP_PROXY', text('http-proxy')),
    httpsProxy: checkProxy('HTTPS_PROXY', text('https-proxy')),
    noProxy: text('no-proxy') ?? fromEnvironment('NO_PROXY'),
    ip: text('ip') === undefined ? undefined : checkIp(text('ip') ?? ''),
    defaultAddressPools: ((raw.get('default-address-pools') as { base: string; size: number }[] | undefined) ?? []).map(checkPool),
    dns: list('dns').map((address) => checkIp(address)),
    dnsSearch: list('dns-search').map(checkSearchDomain),
    dnsOptions: list('dns-opts'),
    logDriver,
    logOptions: checkLogOptions(logDriver ?? 'json-file', (raw.get('log-opts') as Record<string, string> | undefined) ?? {}),
    labels: checkLabels(list('labels')),
    runtimes,
    defaultRuntime,
    hosts: hosts.map(formatHost),
    maxConcurrentDownloads: atLeastOne('max concurrent downloads', number('max-concurrent-downloads')),
    maxConcurrentUploads: atLeastOne('max concurrent uploads', number('max-concurrent-uploads')),
    imageGc: imageGc(number('image-gc-high'), number('image-gc-low')),
    shutdownTimeoutSeconds: number('shutdown-timeout'),
    storageOptions: list('storage-opts').map(checkStorageOption),
    defaultUlimits: (raw.get('default-ulimits') as Record<string, Ulimit> | undefined) ?? {},
    init: flag('init'),
    classicBuilder: (raw.get('features') as Record<string, boolean> | undefined)?.buildkit === false ? true : undefined,
    defaultShmSizeBytes: readSize('--default-shm-size', text('default-shm-size')),
    defaultIpcMode: oneOf('IPC', text('default-ipc-mode'), ['private', 'shareable']),
    defaultCgroupnsMode: oneOf('cgroup namespace', text('default-cgroupns-mode'), ['private', 'host']),
    noNewPrivileges: flag('no-new-privileges'),
    seccompProfile: checkSeccompProfile(text('seccomp-profile')),
    cgroupParent: text('cgroup-parent'),
    auditLog: checkAbsolute('--audit-log', text('audit-log')),
    upstreamsFile: checkAbsolute('--upstreams', text('upstreams')),
    debug,
    group: text('group'),
  };
  return {
    dataRoot: checkRoot('--data-root', text('data-root') ?? defaultDataRoot),
    execRoot: checkRoot('--exec-root', text('exec-root') ?? defaultExecRoot),
    hosts,
    group: text('group') ?? 'docker',
    groupGiven: text('group') !== undefined && text('group') !== 'docker',
    tls,
    policyFile: checkPolicy(text('policy-file')),
    hostsFile: checkHostsFile(text('hosts-file')),
    logLevel: debug ? 'debug' : checkLogLevel(text('log-level') ?? 'info'),
    shutdownTimeoutSeconds: number('shutdown-timeout') ?? 15,
    compact: flag('compact') === true,
    pidFile: checkAbsolute('--pidfile', text('pidfile')),
    engineOptions: Object.fromEntries(Object.entries(engineOptions).filter(([, value]) => value !== undefined)),
  };
}

/** Roots are absolute, and short enough that the sockets below them have names the kernel takes (107 bytes). */
function checkRoot(flag: string, path: string): string {
  if (!path.startsWith('/') || path === '/')
    throw new InvalidParameter(`invalid argument "${path}" for "${flag}" flag: must be an absolute path`);
  const normal = path.replace(/\/+$/, '');
  const longestSocket = '/sockets/container-service/00000000.stream.sock';
  if (flag === '--exec-root' && Buffer.byteLength(normal) + longestSocket.length > 107) {
    throw new InvalidParameter(
      `invalid argument "${path}" for "${flag}" flag: at most ${107 - longestSocket.length} bytes, or its sockets' names are too long`,
    );
  }
  return normal;
}

function checkTls(raw: RawSettings): TlsFiles | undefined {
  const verify = raw.get('tlsverify') === true;
  if (!verify && raw.get('tls') !== true) return undefined;
  const home = process.env.DOCKER_CERT_PATH ?? '/etc/flotilla/tls';
  const path = (key: string, name: string): string => (raw.get(key) as string | undefined) ?? `${home}/${name}`;
  const files = { caCert: path('tlscacert', 'ca.pem'), cert: path('tlscert', 'cert.pem'), key: path('tlskey', 'key.pem') };
  for (const [what, file] of Object.entries(files)) {
    if (what === 'caCert' && !verify) continue;
    if (!existsSync(file)) {
      throw new InvalidParameter(
        what === 'caCert'
          ? `could not read CA certificate "${file}": open ${file}: no such file or directory`
          : `could not load X509 key pair: open ${file}: no such file or directory`,
      );
    }
  }
  return { verify, caCert: verify ? files.caCert : undefined, cert: files.cert, key: files.key };
}

function checkPolicy(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    throw new InvalidParameter(`--policy-file: ${errorMessage(error)}`);
  }
  try {
    Policy.parse(content);
  } catch (error) {
    throw new InvalidParameter(`--policy-file ${path}: ${errorMessage(error)}`);
  }
  return path;
}

function checkHostsFile(path: string | undefined): string | undefined {
  if (path !== undefined) resolveHosts(path);
  return path;
}

function checkAbsolute(flag: string, path: string | undefined): string | undefined {
  if (path !== undefined && !path.startsWith('/')) throw new InvalidParameter(`${flag} ${path}: must be an absolute path`);
  return path;
}

function oneOf<Mode extends string>(what: string, text: string | undefined, modes: readonly Mode[]): Mode | undefined {
  if (text === undefined || text === '') return undefined;
  const mode = modes.find((each) => each === text);
  if (mode === undefined) throw new InvalidParameter(`Default ${what} mode setting "${text}" not supported`);
  return mode;
}

/** `64M`, `1.5gb`, or plain bytes. */
function readSize(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp])?i?b?$/i.exec(text);
  const bytes = Math.trunc(Number(match?.[1]) * 1024 ** ' kmgtp'.indexOf(match?.[2]?.toLowerCase() ?? ' '));
  if (match === null || bytes < 1) throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: invalid size: '${text}'`);
  return bytes;
}

/** Docker's own, none, or a file's, which container-service reads. */
function checkSeccompProfile(text: string | undefined): string | undefined {
  if (text === undefined || text === '' || text === 'builtin') return undefined;
  if (text === 'unconfined') return text;
  try {
    JSON.parse(readFileSync(text, 'utf8'));
  } catch (error) {
    throw new InvalidParameter(`opening seccomp profile (${text}) failed: ${errorMessage(error)}`);
  }
  return checkAbsolute('--seccomp-profile', text);
}

function checkMirror(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new InvalidParameter(`invalid mirror: "${text}" is not a valid URI`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new InvalidParameter(`invalid mirror: no scheme specified for "${text}": must use either 'https://' or 'http://'`);
  }
  if (url.username !== '' || url.password !== '') throw new InvalidParameter('invalid mirror: username/password not allowed in URI');
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new InvalidParameter(`invalid mirror: path, query, or fragment at end of the URI "${text}"`);
  }
  return `${url.protocol}//${url.host}/`;
}

function checkInsecureRegistry(text: string): string {
  if (text.includes('://')) throw new InvalidParameter(`insecure registry ${text} should not contain '://'`);
  if (text.startsWith('-') || text.endsWith('-'))
    throw new InvalidParameter(`invalid insecure registry: "${text}" must not start or end with a hyphen`);
  if (text.includes('/')) return checkCidr('--insecure-registry', text);
  if (!/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$/.test(text))
    throw new InvalidParameter(`insecure registry ${text} is not valid: invalid host "${text}"`);
  return text;
}

function checkHttpUrl(flag: string, text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: must be http://HOST:PORT or https://HOST:PORT`);
  }
  return text;
}

function checkIp(text: string, family?: 4 | 6): string {
  if (isIP(text) === 0 || (family !== undefined && isIP(text) !== family))
    throw new InvalidParameter(`IP address is not correctly formatted: ${text}`);
  return text;
}

function checkCidr(flag: string, text: string, wanted?: 4 | 6): string {
  const [address = '', bits = ''] = text.split('/');
  const family = isIP(address);
  if (family === 0 || (wanted !== undefined && family !== wanted) || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) {
    throw new InvalidParameter(`invalid argument "${text}" for "${flag}" flag: invalid CIDR address: ${text}`);
  }
  return text;
}

/** A name the kernel takes, and only one way to say which addresses it has. */
function checkBridge(raw: RawSettings): string | undefined {
  const name = raw.get('bridge') as string | undefined;
  if (name === undefined || name === '') return undefined;
  if (name !== 'none' && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/.test(name)) throw new InvalidParameter(`invalid interface name: "${name}"`);
  if (raw.has('bip')) throw new InvalidParameter('You specified -b & --bip, mutually exclusive options. Please specify only one');
  return name;
}

function checkIptables(iptables: boolean | undefined, icc: boolean | undefined): boolean | undefined {
  if (iptables === false && icc === false) {
    throw new InvalidParameter(
      'You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true',
    );
  }
  return iptables;
}

/** At most one of each family. */
function checkHostGateways(addresses: readonly string[]): string[] {
  const checked = addresses.map((address) => checkIp(address));
  for (const family of [4, 6]) {
    if (checked.filter((address) => isIP(address) === family).length > 1) {
      throw new InvalidParameter(`only one IPv${family} host gateway IP address can be specified`);
    }
  }
  return checked;
}

function fromEnvironment(name: string): string | undefined {
  return process.env[name] || process.env[name.toLowerCase()];
}

/** The setting, else what the environment says, as with dockerd. */
function checkProxy(variable: string, text: string | undefined): string | undefined {
  if (text === undefined || text === '') return fromEnvironment(variable);
  if (!URL.canParse(text.includes('://') ? text : `http://${text}`)) throw new InvalidParameter(`invalid proxy: ${JSON.stringify(text)}`);
  return text;
}

function checkPool(pool: { base: string; size: number }): { base: string; size: number } {
  checkCidr('--default-address-pool', pool.base);
  const bits = Number(pool.base.split('/')[1]);
  const most = pool.base.includes(':') ? 128 : 30;
  if (pool.size < bits || pool.size > most) {
    throw new InvalidParameter(
      `invalid default address pool base=${pool.base},size=${pool.size}: the size must be from ${bits} to ${most}`,
    );
  }
  return { base: pool.base, size: pool.size };
}

function checkMtu(mtu: number | undefined): number | undefined {
  // 0 is dockerd's word for "not set"; below 68 bytes no IPv4 link works.
  if (mtu === undefined || mtu === 0) return undefined;
  if (mtu < 68 || mtu > 65535) throw new InvalidParameter(`invalid default MTU value: ${mtu}`);
  return mtu;
}

function checkSearchDomain(text: string): string {
  const domain = text.trim();
  if (domain === '.') return domain;
  const label = /^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?$/;
  if (
    domain.length > 255 ||
    !domain
      .replace(/\.$/, '')
      .split('.')
      .every((part) => part.length <= 63 && label.test(part))
  ) {
    throw new InvalidParameter(`${text} is not a valid domain`);
  }
  return domain;
}

const logOptionsOf: Readonly<Record<string, readonly string[]>> = {
  'json-file': ['max-file', 'max-size', 'compress', 'labels', 'labels-regex', 'env', 'env-regex', 'tag'],
  local: ['max-file', 'max-size', 'compress'],
  none: [],
};
const optionsOfEveryDriver = ['mode', 'max-buffer-size'];

function checkLogDriver(driver: string | undefined): string | undefined {
  if (driver !== undefined && logOptionsOf[driver] === undefined) {
    throw new InvalidParameter(`failed to set log opts: logger: no log driver named '${driver}' is registered`);
  }
  return driver;
}

function checkLogOptions(driver: string, options: Record<string, string>): Record<string, string> {
  for (const name of Object.keys(options)) {
    if (!(logOptionsOf[driver] ?? []).includes(name) && !optionsOfEveryDriver.includes(name)) {
      throw new InvalidParameter(`failed to set log opts: unknown log opt '${name}' for ${driver} log driver`);
    }
  }
  return options;
}

function checkLabels(labels: string[]): string[] {
  const values = new Map<string, string>();
  for (const label of labels) {
    const at = label.indexOf('=');
    if (at < 1) throw new InvalidParameter(`bad attribute format: ${label}`);
    const [name, value] = [label.slice(0, at), label.slice(at + 1)];
    const before = values.get(name);
    if (before !== undefined && before !== value) {
      throw new InvalidParameter(`conflict labels for ${name}=${value} and ${name}=${before}`);
    }
    values.set(name, value);
  }
  return [...values].map(([name, value]) => `${name}=${value}`);
}

function checkRuntimes(raw: RawSettings): Record<string, { path: string; runtimeArgs?: string[] }> {
  const runtimes = (raw.get('runtimes') as Record<string, { path: string; runtimeArgs?: string[] }> | undefined) ?? {};
  for (const [name, runtime] of Object.entries(runtimes)) {
    if (name === 'runc' || name === 'crun') throw new InvalidParameter(`runtime name '${name}' is reserved`);
    if (runtime.path === '') throw new InvalidParameter(`runtime '${name}': path is empty`);
  }
  return runtimes;
}

function checkStorageOption(text: string): string {
  if (!/^[^=]+=.*$/.test(text)) throw new InvalidParameter(`unable to parse storage-opt ${text}: must be key=value`);
  if (/^overlay2\.override_kernel_check=/.test(text)) return text;
  throw new InvalidParameter(`overlay2: unknown option ${text.split('=')[0]}`);
}

function imageGc(high: number | undefined, low: number | undefined): EngineOptions['imageGc'] {
  if (high === undefined && low === undefined) return undefined;
  if (high === undefined) throw new InvalidParameter('--image-gc-low says nothing without --image-gc-high');
  const lowPercent = low ?? Math.max(0, high - 10);
  if (high < 1 || high > 100 || lowPercent < 0 || lowPercent >= high) {
    throw new InvalidParameter(`invalid image gc thresholds: ${lowPercent} to ${high} percent`);
  }
  return { highPercent: high, lowPercent };
}

function atLeastOne(what: string, value: number | undefined): number | undefined {
  if (value !== undefined && value < 1) throw new InvalidParameter(`invalid ${what}: ${value}`);
  return value;
}

const logLevels = new Map<string, LogLevel>([
  ['debug', 'debug'],
  ['info', 'info'],
  ['warn', 'warn'],
  ['warning', 'warn'],
  ['error', 'error'],
  ['fatal', 'fatal'],
  ['panic', 'fatal'],
]);

function checkLogLevel(text: string): LogLevel {
  const level = logLevels.get(text.toLowerCase());
  if (level === undefined) throw new InvalidParameter(`invalid logging level: ${text}`);
  return level;
}
