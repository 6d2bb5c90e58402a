/**
 * Requests from a seed, right and wrong, to every operation of the Engine API: its paths, the names and types of its query parameters and of the fields of
 * its bodies are those of the API's specification; what stands in them is what clients send, and what nobody should.
 */
import type { Random } from '@flotilla/testkit';

/** Method, path, id, and query parameters: `?` a boolean, `#` a number, `[]` a list, `{}` an object, else a text. */
const operations = `
GET /containers/json ContainerList all? limit# size? filters
POST /containers/create ContainerCreate name platform
GET /containers/{id}/json ContainerInspect size?
GET /containers/{id}/top ContainerTop ps_args
GET /containers/{id}/logs ContainerLogs follow? stdout? stderr? since# until# timestamps? tail
GET /containers/{id}/changes ContainerChanges
GET /containers/{id}/export ContainerExport
GET /containers/{id}/stats ContainerStats stream? one-shot?
POST /containers/{id}/resize ContainerResize h# w#
POST /containers/{id}/start ContainerStart detachKeys
POST /containers/{id}/stop ContainerStop signal t#
POST /containers/{id}/restart ContainerRestart signal t#
POST /containers/{id}/kill ContainerKill signal
POST /containers/{id}/update ContainerUpdate
POST /containers/{id}/rename ContainerRename name
POST /containers/{id}/pause ContainerPause
POST /containers/{id}/unpause ContainerUnpause
POST /containers/{id}/attach ContainerAttach detachKeys logs? stream? stdin? stdout? stderr?
GET /containers/{id}/attach/ws ContainerAttachWebsocket detachKeys logs? stream? stdin? stdout? stderr?
POST /containers/{id}/wait ContainerWait condition
DELETE /containers/{id} ContainerDelete v? force? link?
HEAD /containers/{id}/archive ContainerArchiveInfo path
GET /containers/{id}/archive ContainerArchive path
PUT /containers/{id}/archive PutContainerArchive path noOverwriteDirNonDir copyUIDGID
POST /containers/prune ContainerPrune filters
GET /images/json ImageList all? filters shared-size? digests?
POST /build ImageBuild dockerfile t extrahosts q? nocache? cachefrom pull rm? forcerm? memory# memswap# cpushares# cpusetcpus cpuperiod# cpuquota# buildargs shmsize# squash? labels networkmode platform target outputs version
POST /build/prune BuildPrune keep-storage# all? filters
POST /images/create ImageCreate fromImage repo tag message changes[] platform
GET /images/{name}/json ImageInspect
GET /images/{name}/history ImageHistory
POST /images/{name}/push ImagePush tag
POST /images/{name}/tag ImageTag repo tag
DELETE /images/{name} ImageDelete force? noprune?
GET /images/search ImageSearch term limit# filters
POST /images/prune ImagePrune filters
POST /auth SystemAuth
GET /info SystemInfo
GET /version SystemVersion
GET /_ping SystemPing
POST /commit ImageCommit container repo tag comment author pause? changes
GET /events SystemEvents since until filters
GET /system/df SystemDataUsage type[]
GET /images/{name}/get ImageGet
GET /images/get ImageGetAll names[]
POST /images/load ImageLoad quiet?
POST /containers/{id}/exec ContainerExec
POST /exec/{id}/start ExecStart
POST /exec/{id}/resize ExecResize h# w#
GET /exec/{id}/json ExecInspect
GET /volumes VolumeList filters
POST /volumes/create VolumeCreate
GET /volumes/{name} VolumeInspect
PUT /volumes/{name} VolumeUpdate version#
DELETE /volumes/{name} VolumeDelete force?
POST /volumes/prune VolumePrune filters
GET /networks NetworkList filters
GET /networks/{id} NetworkInspect verbose? scope
DELETE /networks/{id} NetworkDelete
POST /networks/create NetworkCreate
POST /networks/{id}/connect NetworkConnect
POST /networks/{id}/disconnect NetworkDisconnect
POST /networks/prune NetworkPrune filters
GET /plugins PluginList filters
GET /plugins/privileges GetPluginPrivileges
POST /plugins/pull PluginPull name
GET /plugins/{name}/json PluginInspect
DELETE /plugins/{name} PluginDelete force?
POST /plugins/{name}/enable PluginEnable timeout#
POST /plugins/{name}/disable PluginDisable force?
POST /plugins/{name}/upgrade PluginUpgrade
POST /plugins/create PluginCreate name
POST /plugins/{name}/push PluginPush
POST /plugins/{name}/set PluginSet
GET /nodes NodeList filters
GET /nodes/{id} NodeInspect
DELETE /nodes/{id} NodeDelete force?
POST /nodes/{id}/update NodeUpdate version#
GET /swarm SwarmInspect
POST /swarm/init SwarmInit
POST /swarm/join SwarmJoin
POST /swarm/leave SwarmLeave force?
POST /swarm/update SwarmUpdate version# rotateWorkerToken? rotateManagerToken? rotateManagerUnlockKey?
GET /swarm/unlockkey SwarmUnlockkey
POST /swarm/unlock SwarmUnlock
GET /services ServiceList filters status?
POST /services/create ServiceCreate
GET /services/{id} ServiceInspect insertDefaults?
DELETE /services/{id} ServiceDelete
POST /services/{id}/update ServiceUpdate version# registryAuthFrom rollback
GET /services/{id}/logs ServiceLogs details? follow? stdout? stderr? since# timestamps? tail
GET /tasks TaskList filters
GET /tasks/{id} TaskInspect
GET /tasks/{id}/logs TaskLogs details? follow? stdout? stderr? since# timestamps? tail
GET /secrets SecretList filters
POST /secrets/create SecretCreate
GET /secrets/{id} SecretInspect
DELETE /secrets/{id} SecretDelete
POST /secrets/{id}/update SecretUpdate version#
GET /configs ConfigList filters
POST /configs/create ConfigCreate
GET /configs/{id} ConfigInspect
DELETE /configs/{id} ConfigDelete
POST /configs/{id}/update ConfigUpdate version#
GET /distribution/{name}/json DistributionInspect
POST /session Session`;

/** Fields of bodies, by operation; HostConfig is a part of one. */
const bodies: Readonly<Record<string, string>> = {
  ContainerCreate:
    'Hostname Domainname User AttachStdin? AttachStdout? AttachStderr? ExposedPorts{} Tty? OpenStdin? StdinOnce? Env[] Cmd[] Healthcheck{} ' +
    'ArgsEscaped? Image Volumes{} WorkingDir Entrypoint[] NetworkDisabled? MacAddress OnBuild[] Labels{} StopSignal StopTimeout# Shell[] ' +
    'HostConfig{} NetworkingConfig{}',
  ContainerUpdate:
    'CpuShares# Memory# CgroupParent BlkioWeight# BlkioWeightDevice[] BlkioDeviceReadBps[] BlkioDeviceWriteBps[] BlkioDeviceReadIOps[] ' +
    'BlkioDeviceWriteIOps[] CpuPeriod# CpuQuota# CpuRealtimePeriod# CpuRealtimeRuntime# CpusetCpus CpusetMems Devices[] DeviceCgroupRules[] ' +
    'DeviceRequests[] KernelMemoryTCP# MemoryReservation# MemorySwap# MemorySwappiness# NanoCpus# OomKillDisable? Init? PidsLimit# Ulimits[] ' +
    'CpuCount# CpuPercent# IOMaximumIOps# IOMaximumBandwidth# RestartPolicy{}',
  SystemAuth: 'username password email serveraddress',
  ImageCommit:
    'Hostname Domainname User AttachStdin? AttachStdout? AttachStderr? ExposedPorts{} Tty? OpenStdin? StdinOnce? Env[] Cmd[] Healthcheck{} ' +
    'ArgsEscaped? Image Volumes{} WorkingDir Entrypoint[] NetworkDisabled? MacAddress OnBuild[] Labels{} StopSignal StopTimeout# Shell[]',
  ContainerExec: 'AttachStdin? AttachStdout? AttachStderr? ConsoleSize[] DetachKeys Tty? Env[] Cmd[] Privileged? User WorkingDir',
  ExecStart: 'Detach? Tty? ConsoleSize[]',
  VolumeCreate: 'Name Driver DriverOpts{} Labels{} ClusterVolumeSpec{}',
  VolumeUpdate: 'Spec{}',
  NetworkCreate:
    'Name CheckDuplicate? Driver Scope Internal? Attachable? Ingress? ConfigOnly? ConfigFrom{} IPAM{} EnableIPv6? Options{} Labels{}',
  NetworkConnect: 'Container EndpointConfig{}',
  NetworkDisconnect: 'Container Force?',
  HostConfig:
    'CpuShares# Memory# CgroupParent BlkioWeight# BlkioWeightDevice[] BlkioDeviceReadBps[] BlkioDeviceWriteBps[] BlkioDeviceReadIOps[] ' +
    'BlkioDeviceWriteIOps[] CpuPeriod# CpuQuota# CpuRealtimePeriod# CpuRealtimeRuntime# CpusetCpus CpusetMems Devices[] DeviceCgroupRules[] ' +
    'DeviceRequests[] KernelMemoryTCP# MemoryReservation# MemorySwap# MemorySwappiness# NanoCpus# OomKillDisable? Init? PidsLimit# Ulimits[] ' +
    'CpuCount# CpuPercent# IOMaximumIOps# IOMaximumBandwidth# Binds[] ContainerIDFile LogConfig{} NetworkMode PortBindings{} RestartPolicy{} ' +
    'AutoRemove? VolumeDriver VolumesFrom[] Mounts[] ConsoleSize[] Annotations{} CapAdd[] CapDrop[] CgroupnsMode Dns[] DnsOptions[] DnsSearch[] ' +
    'ExtraHosts[] GroupAdd[] IpcMode Cgroup Links[] OomScoreAdj# PidMode Privileged? PublishAllPorts? ReadonlyRootfs? SecurityOpt[] StorageOpt{} ' +
    'Tmpfs{} UTSMode UsernsMode ShmSize# Sysctls{} Runtime Isolation MaskedPaths[] ReadonlyPaths[]',
};

export interface AnyRequest {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly id: string;
  readonly query: readonly string[];
}

const table: readonly Operation[] = operations
  .trim()
  .split('\n')
  .map((line) => {
    const [method = '', path = '', id = '', ...query] = line.split(' ');
    return { method, path, id, query };
  });

/** What there is to be named, by what a path calls it. */
export interface Named {
  readonly containers: readonly string[];
  readonly images: readonly string[];
  readonly networks: readonly string[];
  readonly volumes: readonly string[];
  readonly exec: readonly string[];
}

const long = 'x'.repeat(3000);
const oddNames = ['ghost', '..', '%00', '%ff', 'a/../b', 'é', '%2e%2e%2f', long, '', '-', 'sha256:0', 'a b', '0', '{', '%'] as const;
const texts = [
  '',
  'x',
  '0',
  '-1',
  'true',
  'null',
  '/',
  '/tmp',
  '../..',
  'a:b:c',
  'é\u0000',
  '{"a":["b"]}',
  '[]',
  '{',
  long,
  '10.0.0.0/99',
  'host',
  'none',
] as const;
const numbers = [0, 1, -1, 3, 65536, 2 ** 31, 2 ** 53, -(2 ** 63), 1e300, 0.5] as const;
const filters = [
  '{}',
  '{"label":["a=b"]}',
  '{"label":{"a":true}}',
  '{"status":["running"]}',
  '{"until":["1h"]}',
  '{"nonsense":["x"]}',
  '{"dangling":["maybe"]}',
  '[1]',
  '{"label":1}',
  'x',
] as const;

export class RequestMaker {
  private readonly random: Random;
  private readonly named: Named;

  constructor(random: Random, named: Named) {
    this.random = random;
    this.named = named;
  }

  /** The next one. */
  make(): AnyRequest {
    const { random } = this;
    const { method, path, id, query } = table[random.below(table.length)] as Operation;
    const parts = query.filter(() => random.next() < 0.4).map((parameter) => this.parameter(parameter));
    if (random.next() < 0.05) parts.push(random.pick(['%', '&&', '=x', 'all=%zz', 'a;b', `${long}=1`]));
    const prefix = random.pick(['', '/v1.50', '/v1.41', '/v1.24', '/v1.50', '/v9.9']);
    const search = parts.length === 0 ? '' : `?${parts.join('&')}`;
    const made = { operation: id, method, path: `${prefix}${this.path(path)}${search}` };
    if (method === 'GET' || method === 'HEAD' || method === 'DELETE') return { ...made, headers: this.headers() };
    const body = this.body(id);
    const type =
      random.next() < 0.9
        ? { 'content-type': 'application/json' }
        : { 'content-type': random.pick(['text/plain', '', 'application/x-tar', 'a/b/c']) };
    return {
      ...made,
      headers: { ...this.headers(), ...type, ...(random.next() < 0.5 ? {} : { 'content-length': String(Buffer.byteLength(body)) }) },
      body,
    };
  }

  private headers(): Record<string, string> {
    const { random } = this;
    if (random.next() < 0.8) return {};
    return {
      [random.pick(['x-registry-auth', 'x-registry-config', 'traceparent', 'range', 'accept-encoding', 'expect'])]: random.pick([
        '',
        'x',
        'e30=',
        long,
        '100-continue',
        '00-x-x-x',
      ]),
    };
  }

  private path(template: string): string {
    const kind = template.split('/')[1] as keyof Named;
    return template.replace(/\{\w+\}/, () => this.name(kind));
  }

  private name(kind: keyof Named): string {
    const known = this.named[kind] ?? [];
    const name = known[this.random.below(known.length)];
    return name === undefined || this.random.next() < 0.25 ? encodeURI(this.random.pick(oddNames)).replaceAll('%25', '%') : name;
  }

  private parameter(parameter: string): string {
    const { random } = this;
    const [, name = '', type = ''] = /^(.*?)(\?|#|\[\]|)$/.exec(parameter) ?? [];
    const value = this.value(name, type);
    return `${name}=${random.next() < 0.9 ? encodeURIComponent(value) : encodeURIComponent(value).slice(0, 20)}`;
  }

  private value(name: string, type: string): string {
    const { random } = this;
    // What would be asked of the world outside of the test is not asked.
    if (name === 'fromImage') return random.pick([this.named.images[0] ?? 'x', '127.0.0.1:1/none', 'UPPER', '', ':']);
    if (name === 'container') return this.named.containers[random.below(this.named.containers.length)] ?? 'x';
    if (name === 'filters') return random.pick(filters);
    if (type === '?') return random.pick(['1', '0', 'true', 'false', 'True', '', 'x', '2']);
    if (type === '#') return String(random.next() < 0.8 ? random.pick(numbers) : random.pick(texts));
    return random.pick(texts);
  }

  private body(id: string): string | Buffer {
    const { random } = this;
    const fields = bodies[id];
    const kind = random.next();
    if (kind < 0.05) return random.pick(['', '{', 'null', '[]', '"x"', '{}{}', '\ufeff{}', '{"a":', `{"${long}":1}`, '1']);
    if (fields === undefined) return random.pick(['{}', 'x', '', '{"Name":"x"}']);
    const text = JSON.stringify(this.document(fields));
    return kind < 0.1 ? text.slice(0, random.below(text.length)) : text;
  }

  private document(fields: string): Record<string, unknown> {
    const { random } = this;
    const chosen = fields.split(' ').filter(() => random.next() < 0.12);
    const document: Record<string, unknown> = Object.fromEntries(chosen.map((field) => this.field(field)));
    // Enough of them must be right for what comes after the reading.
    if (fields.includes('Image ') && random.next() < 0.8) document.Image = this.named.images[0];
    if (fields.startsWith('Hostname') && random.next() < 0.7) document.HostConfig = this.document(bodies.HostConfig ?? '');
    if (/\bCmd/.test(fields) && random.next() < 0.7) document.Cmd = ['true'];
    if (/\bContainer\b/.test(fields) && random.next() < 0.7) document.Container = this.named.containers[0];
    if (/^Name\b/.test(fields) && random.next() < 0.7) document.Name = `made-${random.below(1e9)}`;
    // Nobody outside is asked whether he knows a password.
    if (fields.includes('serveraddress')) document.serveraddress = random.pick(['127.0.0.1:1', 'http://127.0.0.1:1', '']);
    return document;
  }

  private field(field: string): [string, unknown] {
    const [, name = '', type = ''] = /^(.*?)(\?|#|\[\]|\{\}|)$/.exec(field) ?? [];
    return [
      name,
      this.random.next() < 0.85 ? this.right(type) : this.random.pick<unknown>([null, true, 5, 'x', [], {}, [null], { a: null }, [[]]]),
    ];
  }

  private right(type: string): unknown {
    const { random } = this;
    if (type === '?') return random.next() < 0.5;
    if (type === '#') return random.pick(numbers);
    if (type === '[]')
      return random.pick<unknown>([
        [],
        ['x'],
        [''],
        ['a=b'],
        [{}],
        ['a:b', 'c'],
        [{ Name: 'x', Type: 'y' }],
        Array.from({ length: 200 }, (_, at) => `k${at}`),
      ]);
    if (type === '{}')
      return random.pick<unknown>([
        {},
        { a: 'b' },
        { '80/tcp': [{ HostPort: '99999' }] },
        { Name: 'always' },
        { Type: 'none', Config: { a: 'b' } },
        { '': '' },
        { [long]: {} },
      ]);
    return random.pick(texts);
  }
}
