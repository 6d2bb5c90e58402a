/** The processes of a stack: for each its command, environment, user, probe and place in the order of starting and stopping. */
import { createHash } from 'node:crypto';
import type { TlsMaterial } from '@flotilla/records/redisUrl';
import type { EngineOptions } from '@flotilla/service-kit';
import { type Environments, giveEnvironments } from '../compact/environments.ts';
import type { LogLevel } from '../options/settings.ts';
import { type Account, root } from './accounts.ts';
import { openCompileCache } from './compileCache.ts';
import { type Accounts, accountOf } from './directories.ts';
import type { StackPaths } from './paths.ts';
import { instancePlaceholder, type Listener, type ProcessPlan } from './plan.ts';
import { requireProgram, searchPath } from './programs.ts';
import type { Secrets } from './secrets.ts';
import { compactName, type ServiceDefinition, services } from './services.ts';

/** Where the stack's own Redis and NATS are, or the outside ones that REDIS_URL and NATS_URL name. */
export type EngineAddress =
  | { readonly kind: 'own'; readonly url: string }
  | {
      readonly kind: 'outside';
      readonly url: string;
      readonly user: string;
      readonly password: string;
      readonly tls: TlsMaterial;
      /** NATS alone. */
      readonly credentials: string;
    };

export interface ProcessOptions {
  readonly paths: StackPaths;
  readonly accounts: Accounts;
  readonly engineId: string;
  readonly secrets: Secrets;
  readonly redis: EngineAddress;
  readonly nats: EngineAddress;
  readonly natsPort: number;
  /** What is written for the stack's own Redis and NATS to read. */
  readonly engineConfigs: Readonly<Partial<Record<string, string>>>;
  readonly engineOptions: Partial<EngineOptions>;
  readonly logLevel: LogLevel;
  readonly shutdownTimeoutSeconds: number;
  /** The five services in one process. */
  readonly compact: boolean;
  /** Each process is a container of another engine, which gives it its user; where the gateway listens there. */
  readonly composed?: { readonly listen: string } | undefined;
  readonly listeners: readonly Listener[];
  /** Where the services' sources are read from. */
  readonly code: string;
  /** The main file of a compact stack's process, relative to the sources. */
  readonly compactMain: string;
  readonly version: string;
}

const compactStopStage = 1;
const serviceStopStage = { gateway: 1, 'container-service': 2, 'network-volume': 3, 'image-service': 3, 'registry-proxy': 3 } as const;
const natsStopStage = 4;
const redisStopStage = 5;

export function planProcesses(options: ProcessOptions): ProcessPlan[] {
  return [
    ...(options.redis.kind === 'own' ? [redisProcess(options)] : []),
    ...(options.nats.kind === 'own' ? [natsProcess(options)] : []),
    ...(options.compact ? [compactProcess(options)] : services.map((service) => serviceProcess(service, options))),
  ].map((plan) => ({ ...plan, digest: digestOf(plan, plan.listens ? options.listeners : [], options.engineConfigs[plan.name]) }));
}

type PlanWithoutDigest = Omit<ProcessPlan, 'digest'>;

/** What makes an instance another one: code, options, configuration, sockets. Not where the operator's shell looks for programs. */
function digestOf(plan: PlanWithoutDigest, listeners: readonly Listener[], configuration: string | undefined): string {
  const { PATH: _searchPath, ...env } = plan.env;
  const passed = listeners.map(({ name, address, inode }) => [name, address, inode]);
  return (
    createHash('sha256')
      // Redis and NATS are the machine's: another version of ours is no reason to stop them.
      .update(JSON.stringify([plan.startStage === 1 ? '' : plan.version, plan.command, env, passed, configuration]))
      .digest('hex')
      .slice(0, 16)
  );
}

/** setpriv takes the whole identity off before it becomes the program; root stays as it is, with its whole bounding set. */
function asAccount({ composed }: ProcessOptions, account: Account, command: readonly string[], groups: readonly number[] = []): string[] {
  if (composed !== undefined || account.uid === 0) return [...command];
  return [
    requireProgram('setpriv'),
    `--reuid=${account.uid}`,
    `--regid=${account.gid}`,
    groups.length === 0 ? '--clear-groups' : `--groups=${groups.join(',')}`,
    '--bounding-set=-all',
    '--inh-caps=-all',
    '--no-new-privs',
    ...command,
  ];
}

function redisProcess(options: ProcessOptions): PlanWithoutDigest {
  const { paths, accounts, secrets, version } = options;
  return {
    name: 'redis',
    command: asAccount(options, accounts.redis, [requireProgram('redis-server'), paths.redisConf]),
    env: { PATH: searchPath() },
    account: accounts.redis.name,
    log: `${paths.logs}/redis.log`,
    data: { path: paths.redisData, uid: accounts.redis.uid, gid: accounts.redis.gid },
    listens: false,
    probe: { kind: 'redis', socket: paths.redisSocket, user: 'supervisor', password: secrets.supervisor.redis },
    address: `unix:${paths.redisSocket}`,
    sockets: [],
    startStage: 1,
    stopStage: redisStopStage,
    stopTimeoutMs: 30_000,
    count: 1,
    version,
  };
}

function natsProcess(options: ProcessOptions): PlanWithoutDigest {
  const { paths, accounts, natsPort, version } = options;
  return {
    name: 'nats',
    command: asAccount(options, accounts.nats, [requireProgram('nats-server'), '--config', paths.natsConf]),
    env: { PATH: searchPath(), GOMEMLIMIT: '96MiB' },
    account: accounts.nats.name,
    log: `${paths.logs}/nats.log`,
    data: { path: paths.natsData, uid: accounts.nats.uid, gid: accounts.nats.gid },
    listens: false,
    probe: { kind: 'nats', port: natsPort },
    address: `127.0.0.1:${natsPort}`,
    sockets: [],
    startStage: 1,
    stopStage: natsStopStage,
    stopTimeoutMs: 15_000,
    count: 1,
    version,
  };
}

/** An arena of malloc for every thread keeps its own free pages, several MB each. */
export const allocatorSettings = { MALLOC_ARENA_MAX: '2' } as const;

/**
 * The heap is bounded on purpose, for V8 keeps what it once took. The same for every service: compiled code is kept for one set of flags. And no others: Node brings its own modules compiled for those it was
 * built with, which these leave valid; what else is set, letHeapGrow() of the service-kit sets later.
 */
const nodeFlags = ['--max-semi-space-size=1', '--max-old-space-size=512'];

function serviceProcess(service: ServiceDefinition, options: ProcessOptions): PlanWithoutDigest {
  const { paths, accounts, code } = options;
  const account = accountOf(service, accounts);
  const sockets = socketsOf(service, paths);
  // Redis' socket is its group's: this is how a service without root reaches it.
  const groups = accounts.redis.uid === 0 ? [] : [accounts.redis.gid];
  return {
    name: service.name,
    command: asAccount(options, account, nodeCommand(code, `services/${service.name}/src/main.ts`), groups),
    env: serviceEnvironment(service, options),
    account: account.name,
    log: `${paths.logs}/${service.name}.log`,
    listens: service.listens,
    probe: { kind: 'grpc', sockets: [sockets.grpc] },
    address: `unix:${sockets.grpc}`,
    sockets: Object.values(sockets),
    startStage: 2,
    stopStage: serviceStopStage[service.name],
    stopTimeoutMs: stopTimeoutMs(options),
    count: 1,
    version: options.version,
  };
}

function compactProcess(options: ProcessOptions): PlanWithoutDigest {
  const { paths, code, compactMain } = options;
  const sockets = services.map((service) => socketsOf(service, paths));
  const environments = Object.fromEntries(services.map((service) => [service.name, serviceEnvironment(service, options)])) as Environments;
  return {
    name: compactName,
    command: nodeCommand(code, compactMain),
    env: giveEnvironments(
      {
        ...sharedEnvironment(root, options),
        HOME: paths.dataRoot,
        FLOTILLA_INSTANCE: instancePlaceholder,
        FLOTILLA_LOG_LEVEL: options.logLevel,
      },
      environments,
    ),
    account: root.name,
    log: `${paths.logs}/${compactName}.log`,
    listens: true,
    probe: { kind: 'grpc', sockets: sockets.map(({ grpc }) => grpc) },
    address: `unix:${paths.execRoot}/sockets`,
    sockets: sockets.flatMap((each) => Object.values(each)),
    startStage: 2,
    stopStage: compactStopStage,
    stopTimeoutMs: stopTimeoutMs(options),
    count: 1,
    version: options.version,
  };
}

export function nodeCommand(code: string, main: string): string[] {
  return [`${code}/node_modules/node/bin/node`, ...nodeFlags, `${code}/${main}`];
}

function stopTimeoutMs({ shutdownTimeoutSeconds }: ProcessOptions): number {
  return shutdownTimeoutSeconds < 0 ? 24 * 3600 * 1000 : shutdownTimeoutSeconds * 1000;
}

/** Where an instance of the service listens; `http` where it serves that. */
function socketsOf(service: ServiceDefinition, paths: StackPaths): { grpc: string; stream: string; http?: string } {
  const socket = (kind: string): string => `${paths.execRoot}/sockets/${service.name}/${instancePlaceholder}.${kind}.sock`;
  return { grpc: socket('grpc'), stream: socket('stream'), ...(service.servesHttp ? { http: socket('http') } : {}) };
}

function serviceEnvironment(service: ServiceDefinition, options: ProcessOptions): Record<string, string> {
  const { paths, listeners } = options;
  const sockets = socketsOf(service, paths);
  const [redisUser, redisPassword] = engineUser(options.redis, service.name, options.secrets[service.name].redis);
  const [natsUser, natsPassword] = engineUser(options.nats, service.name, options.secrets[service.name].nats);
  return {
    ...sharedEnvironment(accountOf(service, options.accounts), options),
    HOME: `${paths.dataRoot}/${service.name}`,
    FLOTILLA_DATA_ROOT: paths.dataRoot,
    FLOTILLA_EXEC_ROOT: paths.execRoot,
    FLOTILLA_ENGINE_ID: options.engineId,
    FLOTILLA_INSTANCE: instancePlaceholder,
    FLOTILLA_REDIS_URL: options.redis.url,
    FLOTILLA_REDIS_USER: redisUser,
    FLOTILLA_REDIS_PASSWORD: redisPassword,
    ...(options.redis.kind === 'own' ? {} : { FLOTILLA_REDIS_TLS: JSON.stringify(options.redis.tls) }),
    FLOTILLA_NATS_URL: options.nats.url,
    FLOTILLA_NATS_USER: natsUser,
    FLOTILLA_NATS_PASSWORD: natsPassword,
    ...(options.nats.kind === 'own'
      ? {}
      : { FLOTILLA_NATS_TLS: JSON.stringify(options.nats.tls), FLOTILLA_NATS_CREDENTIALS: options.nats.credentials }),
    FLOTILLA_GRPC_ADDRESS: `unix:${sockets.grpc}`,
    FLOTILLA_STREAM_ADDRESS: `unix:${sockets.stream}`,
    ...(sockets.http === undefined ? {} : { FLOTILLA_HTTP_ADDRESS: `unix:${sockets.http}` }),
    FLOTILLA_LOG_LEVEL: options.logLevel,
    FLOTILLA_ENGINE_OPTIONS: JSON.stringify(options.engineOptions),
    ...(service.listens
      ? { LISTEN_FDS: String(listeners.length), LISTEN_FDNAMES: listeners.map((listener) => listener.name).join(':') }
      : {}),
    ...(service.listens && options.composed !== undefined ? { FLOTILLA_LISTEN: options.composed.listen } : {}),
  };
}

/** What Node and the programs that a service calls go by. */
function sharedEnvironment(account: Account, { paths, composed, code }: ProcessOptions): Record<string, string> {
  return {
    ...passedOn(process.env),
    PATH: searchPath(),
    LANG: 'C.UTF-8',
    NODE_ENV: 'production',
    ...allocatorSettings,
    // An image brings its own, which nobody writes.
    NODE_COMPILE_CACHE: composed === undefined ? openCompileCache(account, paths) : `${code}/.cache/node`,
  };
}

function engineUser(engine: EngineAddress, user: string, password: string): [string, string] {
  return engine.kind === 'own' ? [user, password] : [engine.user, engine.password];
}

/** What of the operator's environment means something to services: proxies, certificates, tracing, and settings of single services. */
function passedOn(env: NodeJS.ProcessEnv): Record<string, string> {
  const wanted = /^(https?_proxy|no_proxy|all_proxy|ssl_cert_(file|dir)|node_extra_ca_certs|tz|otel_\w+|flotilla_\w+)$/i;
  return Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => wanted.test(entry[0]) && entry[1] !== undefined),
  );
}
