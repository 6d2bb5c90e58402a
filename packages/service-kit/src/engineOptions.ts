/**
 * The operator's choices for one stack: what dockerd takes as flags and in daemon.json. The supervisor reads flags and file
 * into this shape and hands it, as JSON, to every service in FLOTILLA_ENGINE_OPTIONS.
 */
import { z } from 'zod';

const ulimit = z.object({ Name: z.string(), Hard: z.number().int(), Soft: z.number().int() });

export const engineOptions = z.object({
  /** Mirrors of docker.io, tried in order. */
  registryMirrors: z.array(z.string()).default([]),
  /** JSON file of upstream registries: mirrors, certificates, credentials; read by registry-proxy. */
  upstreamsFile: z.string().startsWith('/').optional(),
  /** Hosts and CIDRs spoken to by plain HTTP or without checking the certificate. Loopback always is. */
  insecureRegistries: z.array(z.string()).default([]),
  /** Address of a registry-proxy to use instead of the stack's own. */
  registryProxy: z.string().optional(),
  /** Bridge made by hand that the default network uses; `none`: there is no default network. */
  bridge: z.string().optional(),
  /** CIDR of the default bridge's own address; default: the first free pool. */
  bip: z.string().optional(),
  /** CIDR the default bridge gives addresses from. */
  fixedCidr: z.string().optional(),
  /** Whether the default bridge has IPv6. */
  ipv6: z.boolean().default(false),
  /** IPv6 subnet of the default bridge; default: a free one of the pools. */
  fixedCidrV6: z.string().optional(),
  /** Routers of the default bridge other than itself. */
  defaultGateway: z.string().optional(),
  defaultGatewayV6: z.string().optional(),
  /** MTU of the default bridge, bytes. */
  mtu: z.number().int().positive().optional(),
  /** Whether containers on the default bridge reach each other. */
  icc: z.boolean().default(true),
  /** Whether this host is made to forward packets. */
  ipForward: z.boolean().default(true),
  /** Whether the default bridge's addresses are hidden behind the host's. */
  ipMasq: z.boolean().default(true),
  /** Whether packet filter rules are written. */
  iptables: z.boolean().default(true),
  /** What `host-gateway` stands for; empty: the default bridge's own address. */
  hostGatewayIps: z.array(z.string()).default([]),
  /** Options of new networks by driver, where the client gives none. */
  defaultNetworkOptions: z.record(z.string(), z.record(z.string(), z.string())).default({}),
  /** Proxies on the way to upstream registries. */
  httpProxy: z.string().default(''),
  httpsProxy: z.string().default(''),
  noProxy: z.string().default(''),
  /** The address ports are published on when none is given. */
  ip: z.string().default('0.0.0.0'),
  defaultAddressPools: z.array(z.object({ base: z.string(), size: z.number().int() })).default([]),
  dns: z.array(z.string()).default([]),
  dnsSearch: z.array(z.string()).default([]),
  dnsOptions: z.array(z.string()).default([]),
  logDriver: z.string().default('json-file'),
  logOptions: z.record(z.string(), z.string()).default({}),
  /** `key=value` labels of the engine, shown by `docker info`. */
  labels: z.array(z.string()).default([]),
  runtimes: z.record(z.string(), z.object({ path: z.string(), runtimeArgs: z.array(z.string()).optional() })).default({}),
  defaultRuntime: z.string().optional(),
  /** Where the gateway listens, as given by -H. */
  hosts: z.array(z.string()).default([]),
  maxConcurrentDownloads: z.number().int().positive().default(3),
  maxConcurrentUploads: z.number().int().positive().default(5),
  /** Unused images go when the disk is fuller than `highPercent`, until it is emptier than `lowPercent`; absent: never. */
  imageGc: z.object({ highPercent: z.number().min(1).max(100), lowPercent: z.number().min(0).max(100) }).optional(),
  shutdownTimeoutSeconds: z.number().int().default(15),
  storageOptions: z.array(z.string()).default([]),
  defaultUlimits: z.record(z.string(), ulimit).default({}),
  /** An init process in containers that do not say. */
  init: z.boolean().default(false),
  /** `features.buildkit: false`: clients that take the builder which the engine names are told of the classic one. */
  classicBuilder: z.boolean().default(false),
  defaultShmSizeBytes: z.number().int().positive().optional(),
  defaultIpcMode: z.enum(['private', 'shareable']).optional(),
  defaultCgroupnsMode: z.enum(['private', 'host']).optional(),
  noNewPrivileges: z.boolean().default(false),
  /** The profile of containers that name none: `unconfined`, or a file's path; absent: Docker's own. */
  seccompProfile: z.string().optional(),
  /** Parent cgroup of containers; default /flotilla. */
  cgroupParent: z.string().optional(),
  /** Who may do what, as the services read it; absent: all may do all. */
  policyFile: z.string().optional(),
  /** Other engines that are reached through this gateway, with what it needs to dial them. */
  hostsFile: z.string().optional(),
  /** Where the gateway writes who did what. */
  auditLog: z.string().optional(),
  debug: z.boolean().default(false),
  /** Group that owns the unix socket. */
  group: z.string().default('docker'),
  tls: z.object({ verify: z.boolean(), caCert: z.string().optional(), cert: z.string().optional(), key: z.string().optional() }).optional(),
});

export type EngineOptions = z.output<typeof engineOptions>;
