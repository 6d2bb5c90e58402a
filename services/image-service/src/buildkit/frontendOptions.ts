/** The options of the frontend `dockerfile.v0`, as the builder knows them. */
import { goBoolean, type HostConfig, notGoBoolean } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { hostPlatform, type Platform, parsePlatform } from '@flotilla/oci';
import type { BuildOptions } from '../build/options.ts';
import { readEpoch } from '../build/sourceDateEpoch.ts';

export type FrontendOptions = Readonly<Record<string, string>>;

/** A context that the client has on its standard input: `http://buildkit-session/<id>`. */
const uploadPrefix = 'http://buildkit-session/';

/** Where the client says that the parts of a build are. */
export interface FrontendSources {
  readonly dockerfile: string;
  /** The client's directory that holds the Dockerfile. */
  readonly dockerfileDirectory: string;
  readonly contextDirectory: string;
  /** A git repository or a URL; empty: the client's directory. */
  readonly remote: string;
  /** The id of what the client uploads as the context; empty: nothing. */
  readonly upload: string;
  /** Whether a repository's own directory is in the context. */
  readonly keepGitDirectory: boolean;
}

/** @throws InvalidParameter for a setting that cannot be read. */
export function toSources(options: FrontendOptions): FrontendSources {
  const context = options.context ?? '';
  const isUpload = context.startsWith(uploadPrefix);
  return {
    dockerfile: options.filename || 'Dockerfile',
    dockerfileDirectory: options.dockerfilekey || 'dockerfile',
    contextDirectory: options.contextkey || 'context',
    remote: isUpload ? '' : context,
    keepGitDirectory: toBoolean(options, 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR'),
    upload: isUpload ? context.slice(uploadPrefix.length) : '',
  };
}

/** False for an option that is not there or empty. */
function toBoolean(options: FrontendOptions, name: string): boolean {
  const text = options[name] ?? '';
  const value = text === '' ? false : goBoolean(text);
  if (value === undefined) throw new InvalidParameter(`invalid boolean value of ${name}: ${notGoBoolean(text)}`);
  return value;
}

/** @throws InvalidParameter for what no build could do. */
export function toBuildOptions(options: FrontendOptions): BuildOptions {
  return {
    dockerfile: options.filename || 'Dockerfile',
    tags: [],
    remote: '',
    quiet: false,
    noCache: toNoCache(options['no-cache']),
    cacheFrom: [],
    pull: options['image-resolve-mode'] === 'pull',
    remove: true,
    forceRemove: true,
    buildArgs: withPrefix(options, 'build-arg:'),
    labels: withPrefix(options, 'label:'),
    target: options.target ?? '',
    platform: toPlatform(options.platform ?? ''),
    hostConfig: toHostConfig(options),
    buildId: '',
    aux: false,
    cacheOnly: true,
    manner: 'buildkit',
    // Always the same, so that what a step writes of it is.
    hostname: options['build-arg:BUILDKIT_SANDBOX_HOSTNAME'] || options.hostname || 'buildkitsandbox',
    ...epochOption(options),
  };
}

function epochOption(options: FrontendOptions): Pick<BuildOptions, 'sourceDateEpoch'> {
  const sourceDateEpoch = readEpoch(options['build-arg:SOURCE_DATE_EPOCH'] ?? '');
  return sourceDateEpoch === undefined ? {} : { sourceDateEpoch };
}

function toNoCache(value: string | undefined): BuildOptions['noCache'] {
  if (value === undefined) return [];
  return value === '' ? 'all' : value.toLowerCase().split(',');
}

function withPrefix(options: FrontendOptions, prefix: string): Map<string, string> {
  return new Map(Object.entries(options).flatMap(([key, value]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), value]] : [])));
}

/** Contexts by name: `docker-image://…`, `local:…`, `input:…` or a URL. */
export function namedContextsOf(options: FrontendOptions): Map<string, string> {
  return withPrefix(options, 'context:');
}

function toPlatform(text: string): Platform | undefined {
  if (text === '') return undefined;
  if (text.includes(',')) throw new InvalidParameter('multiple platforms feature is currently not supported for docker driver');
  return parsePlatform(text);
}

/** Whether steps for a platform can be run here. */
export function runsHere(platform: Platform): boolean {
  const host = hostPlatform();
  return (
    platform.os === host.os &&
    (platform.architecture === host.architecture || (host.architecture === 'amd64' && platform.architecture === '386'))
  );
}

function toHostConfig(options: FrontendOptions): HostConfig {
  const hosts = (options['add-hosts'] ?? '').split(',').filter(Boolean);
  const ulimits = (options.ulimit ?? '').split(',').filter(Boolean).map(toUlimit);
  const shmSize = Number(options['shm-size'] ?? 0);
  const network = options['force-network-mode'] ?? '';
  if (!['', 'sandbox', 'none', 'host'].includes(network))
    throw new InvalidParameter(`network mode ${JSON.stringify(network)} not supported by buildkit`);
  const cgroupParent = options['cgroup-parent'] ?? '';
  return {
    ...(hosts.length === 0 ? {} : { ExtraHosts: hosts.map((host) => host.replace('=', ':')) }),
    ...(Number.isSafeInteger(shmSize) && shmSize > 0 ? { ShmSize: shmSize } : {}),
    ...(network === '' || network === 'sandbox' ? {} : { NetworkMode: network }),
    ...(cgroupParent === '' ? {} : { CgroupParent: cgroupParent }),
    Ulimits: ulimits,
  };
}

function toUlimit(text: string): { Name: string; Soft: number; Hard: number } {
  const [, name = '', soft = '', hard = soft] = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
  if (name === '') throw new InvalidParameter(`invalid ulimit ${text}`);
  return { Name: name, Soft: Number(soft), Hard: Number(hard) };
}
