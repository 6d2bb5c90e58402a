/**
 * Where this engine's answer is another than that of the dockerd it is compared with, case by case: because dockerd answers so today, or on
 * purpose. `known difference` marks what is to become as dockerd's.
 */
import type { Answer } from './compare.ts';

export interface Exception {
  readonly why: string;
  /** By the name of the case (`caseName`), what is other. */
  readonly answers: Readonly<Record<string, Partial<Answer>>>;
}

export const exceptions: readonly Exception[] = [
  {
    why: 'the sender’s mistake is not the engine’s: 4xx where dockerd says 500, or says nothing',
    answers: {
      'POST /containers/running/kill?signal=999': { status: 400, message: 'invalid signal: 999' },
      'GET /containers/json?filters={"exited":["x"]}': { status: 400, message: "invalid filter 'exited=x'" },
      'GET /containers/json?filters={"publish":["x"]}': { status: 400, message: "invalid filter 'publish=x'" },
      'GET /containers/json?filters={"before":["ghost"]}': { status: 404, message: 'No such container: ghost' },
      'GET /containers/json?filters={"since":["ghost"]}': { status: 404, message: 'No such container: ghost' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"StorageOpt":{"nonsense":"1g"}}}': {
        status: 400,
        message: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
      },
      'POST /containers/running/exec {"Cmd":["true"],"DetachKeys":"nonsense-x"}': {
        status: 400,
        message: 'Invalid detach keys (nonsense-x) provided',
      },
      'PUT /containers/running/archive?path=/tmp nonsense as application/x-tar': { status: 400, message: 'unexpected EOF' },
      'POST /images/create': { status: 400, message: 'either fromImage or fromSrc must be given' },
      'POST /images/create?fromSrc=-&repo=imported nonsense as application/x-tar': { status: 200, message: 'unexpected EOF' },
      'POST /images/create?fromSrc=http://127.0.0.1:1/x.tar': { message: 'failed to GET http://127.0.0.1:1/x.tar' },
      'POST /images/prune?filters={"until":["nonsense"]}': { status: 400, message: "invalid filter 'until=[nonsense]'" },
      'POST /networks/create {}': { status: 400, message: 'invalid name: name is empty' },
      'POST /networks/create {"Name":""}': { status: 400, message: 'invalid name: name is empty' },
      'POST /networks/create {"Name":"x","Scope":"nonsense"}': { status: 400, message: 'invalid network scope: "nonsense"' },
      'POST /networks/create {"Name":"x","Options":{"com.docker.network.driver.mtu":"nonsense"}}': { status: 400 },
      'POST /networks/create {"Name":"x","Options":{"com.docker.network.bridge.enable_icc":"nonsense"}}': { status: 400 },
      'POST /networks/net/disconnect {"Container":"created"}': { status: 403, message: 'container ID is not connected to network net' },
      'POST /networks/host/disconnect {"Container":"running"}': {
        status: 409,
        message: 'container cannot be disconnected from host network or connected to host network',
      },
      'POST /volumes/create {"Name":"other","DriverOpts":{"size":"nonsense"}}': {
        status: 400,
        message: 'create other: quota size requested but no quota support',
      },
      'POST /auth null': { status: 400, message: 'invalid JSON: credentials are missing', type: 'application/json', body: '{}' },
    },
  },
  {
    why: 'a size that is no size is named (newer dockerd)',
    answers: {
      'POST /containers/running/resize?h=nonsense&w=1': { message: 'invalid resize height "nonsense": invalid syntax' },
      'POST /containers/running/resize?h=1&w=-1': {
        status: 400,
        message: 'invalid resize width "-1": value out of range',
        type: 'application/json',
        body: '{}',
      },
      'POST /containers/running/resize?h=1': { message: 'invalid resize width "": invalid syntax' },
      'POST /containers/running/resize': { message: 'invalid resize height "": invalid syntax' },
      'POST /exec/ghost/resize?h=x&w=1': { message: 'invalid resize height "x": invalid syntax' },
      'POST /exec/ghost/resize': { message: 'invalid resize height "": invalid syntax' },
    },
  },
  {
    why: 'a value that means nothing is refused',
    answers: {
      'POST /containers/exited/wait?condition=nonsense': { status: 400, message: 'invalid condition: "nonsense"' },
      'GET /containers/json?filters={"expose":["80/nonsense"]}': {
        status: 400,
        message: "invalid filter 'expose=80/nonsense'",
        body: '{}',
      },
      'GET /images/json?filters={"dangling":["true","false"]}': {
        status: 400,
        message: "invalid filter 'dangling=[true false]'",
        body: '{}',
      },
    },
  },
  {
    why: 'newer dockerd has other words, or reads it otherwise',
    answers: {
      'GET /containers/running/archive?path=/bin/busybox/x': { message: 'lstat /bin/busybox/x: not a directory' },
      'GET /containers/created/attach/ws?stream=1': {
        message: 'bad handshake: this request must be a websocket upgrade',
        type: 'application/json',
        body: '{}',
      },
      'POST /containers/running/update {"CpusetCpus":"x"}': { message: 'Invalid value x for cpuset cpus: failed to parse cpuset: "x"' },
      'POST /containers/create {} as nothing': { message: 'malformed Content-Type header (): mime: no media type' },
      'POST /containers/create {"Image":"x"} trailing': { status: 400, message: 'unexpected content after JSON' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","NetworkingConfig":{"EndpointsConfig":{"one":{},"two":{}}}}': {
        message: 'Container cannot be created with multiple network endpoints: one, two',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"CpusetCpus":"x"}}': {
        message: 'Invalid value x for cpuset cpus: failed to parse cpuset: "x"',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"CpusetMems":"x"}}': {
        message: 'Invalid value x for cpuset mems: failed to parse cpuset: "x"',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Runtime":"nonsense"}}': {
        message: 'unknown or invalid runtime name: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Links":[":b"]}}': {
        message: 'invalid name or ID supplied: ""',
      },
      'GET /images/json?filters={"dangling":["1"]}': { status: 200, message: '', body: '[]' },
      'POST /images/load nonsense as application/x-tar': { message: 'invalid archive: unexpected EOF' },
      'POST /images/load ': { message: 'invalid archive: it holds neither manifest.json nor index.json' },
      'GET /distribution/UPPER/json': { message: 'invalid reference format' },
      'GET /networks?filters={"dangling":["x"]}': { message: "invalid filter 'dangling=[x]'" },
      'DELETE /networks/net': { message: 'error while removing network: network net has active endpoints (name:"running" id:"ID")' },
      'POST /networks/create {"Name":"x","Scope":"swarm"}': {
        message:
          'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
      },
      'POST /networks/create {"Name":"x","Ingress":true}': {
        message:
          'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
      },
      'POST /networks/host/connect {"Container":"running"}': {
        message: 'cannot connect container to host network - container must be created in host network mode',
      },
      'POST /networks/net/connect {"Container":"exited","EndpointConfig":{"IPAMConfig":{"IPv4Address":"nonsense"}}}': {
        message: 'invalid config for network net: invalid endpoint settings:\ninvalid IPv4 address: nonsense',
      },
      'POST /networks/bridge/connect {"Container":"exited","EndpointConfig":{"IPAMConfig":{"IPv4Address":"172.17.0.99"}}}': {
        message:
          'invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only',
      },
      'POST /volumes/create {"Name":"other","DriverOpts":{"nonsense":"x"}}': { message: 'create other: invalid option: "nonsense"' },
      'POST /volumes/create {"Name":"other","DriverOpts":{"type":"tmpfs"}}': { message: 'create other: missing required option: "device"' },
      'POST /volumes/create {"Name":"other","DriverOpts":{"device":"tmpfs"}}': { message: 'create other: missing required option: "type"' },
      'v1.41.1 GET /info': { status: 200, message: '' },
      'POST /build/cancel?id=ghost': { type: '' },
    },
  },
  {
    why: 'a request without a body is one with an empty document (newer dockerd)',
    answers: {
      'POST /containers/running/update': { status: 200, message: '' },
      'POST /containers/running/exec': { message: 'No exec command specified' },
      'POST /networks/create': { message: 'invalid name: name is empty' },
      'POST /volumes/create': { status: 201, message: '' },
    },
  },
  {
    why: 'refused at create: dockerd takes it and fails at start, or never looks',
    answers: {
      'POST /containers/create {"Cmd":["true"]}': { status: 400, message: 'no command specified' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","ExposedPorts":{"nonsense":{}}}': {
        status: 400,
        message: 'invalid port specification: "nonsense"',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","ExposedPorts":{"80/nonsense":{}}}': {
        status: 400,
        message: 'invalid proto: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","ExposedPorts":{"99999/tcp":{}}}': {
        status: 400,
        message: 'invalid port specification: "99999"',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Volumes":{"relative":{}}}': {
        status: 400,
        message:
          "invalid volume specification: 'relative': invalid mount config for type \"volume\": invalid mount path: 'relative' mount path must be absolute",
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Volumes":{"/":{}}}': {
        status: 400,
        message:
          "invalid volume specification: '/': invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","MacAddress":"nonsense"}': {
        status: 400,
        message: 'invalid config for network bridge: invalid endpoint settings:\ninvalid MAC address: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"IpcMode":"nonsense"}}': {
        status: 400,
        message: 'invalid IPC mode: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"IpcMode":"container:"}}': {
        status: 400,
        message: 'invalid IPC mode: container:',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"PidMode":"nonsense"}}': {
        status: 400,
        message: 'invalid PID mode: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"UTSMode":"nonsense"}}': {
        status: 400,
        message: 'invalid UTS mode: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"UsernsMode":"nonsense"}}': {
        status: 400,
        message: 'invalid USER mode: nonsense',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"x"}}}}':
        { status: 400, message: 'invalid value for max-size: x' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-file":"x"}}}}':
        { status: 400, message: 'strconv.Atoi: parsing "x": invalid syntax' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":-1}}]}}':
        { status: 400, message: 'invalid mount config for type "tmpfs": invalid tmpfs size: -1' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Tmpfs":{"/x":"nonsense"}}}': {
        status: 400,
        message: 'invalid tmpfs option ["nonsense" "nonsense"]',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"nonsense","HostPort":"80"}]}}}':
        { status: 400, message: 'invalid IP address: nonsense' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Sysctls":{"nonsense":"1"}}}': {
        status: 400,
        message: 'sysctl "nonsense" is not in a separate kernel namespace',
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"SecurityOpt":["seccomp=/no/such"]}}':
        { status: 400, message: 'Decoding seccomp profile failed: Unexpected token \'/\', "/no/such" is not valid JSON' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Devices":[{"PathOnHost":"/no/such","PathInContainer":"/dev/x","CgroupPermissions":"rwm"}]}}':
        { status: 400, message: 'error gathering device information while adding custom device "/no/such": no such file or directory' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"DeviceCgroupRules":["nonsense"]}}': {
        status: 400,
        message: "invalid device cgroup rule format: 'nonsense'",
      },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Ulimits":[{"Name":"nonsense","Soft":1,"Hard":1}]}}':
        { status: 400, message: 'invalid ulimit type: nonsense' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":2,"Hard":1}]}}':
        { status: 400, message: 'ulimit soft limit must be less than or equal to hard limit: 2 > 1' },
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"DeviceRequests":[{"Driver":"nonsense","Count":1}]}}':
        { status: 400, message: 'could not select device driver "nonsense" with capabilities: []' },
    },
  },
  {
    why: 'known difference: options that say nothing are as good as none',
    answers: {
      'POST /containers/create {"Image":"127.0.0.1:5000/busybox:latest","Cmd":["true"],"HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/x","VolumeOptions":{}}]}}':
        { status: 201, message: '' },
    },
  },
  {
    why: 'a push without credentials is tried (newer dockerd)',
    answers: {
      'POST /images/ghost/push': {
        status: 200,
        message: 'An image does not exist locally with the tag: ghost',
        body: 'lines',
      },
    },
  },
  {
    why: 'a name that cannot be one is told so',
    answers: {
      'POST /images/GHOST/push': { message: 'invalid reference format: repository name must be lowercase' },
    },
  },
  {
    why: 'names are told in full; an archive of nothing is not made',
    answers: {
      'GET /images/get?names=ghost': { message: 'No such image: ghost:latest' },
      'GET /images/ghost/get': { message: 'No such image: ghost:latest' },
      'GET /images/get': { status: 400, message: 'no image is named', type: 'application/json', body: '{}' },
    },
  },
  {
    why: 'networks are checked as a whole before they are made (newer dockerd)',
    answers: {
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"nonsense"}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid subnet nonsense: invalid CIDR block notation',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/33"}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid subnet 10.99.0.0/33: invalid CIDR block notation',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","IPRange":"10.98.0.0/24"}]}}': {
        status: 400,
        message: "invalid network config:\ninvalid ip-range 10.98.0.0/24: parent subnet 10.99.0.0/16 doesn't contain ip-range",
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","IPRange":"nonsense"}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid ip-range nonsense: invalid CIDR block notation',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","Gateway":"nonsense"}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid gateway nonsense: invalid address',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","Gateway":"10.98.0.1"}]}}': {
        status: 400,
        message: "invalid network config:\ninvalid gateway 10.98.0.1: parent subnet 10.99.0.0/16 doesn't contain this address",
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Gateway":"10.99.0.1"}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid subnet : invalid CIDR block notation',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","AuxiliaryAddresses":{"a":"nonsense"}}]}}': {
        status: 400,
        message: 'invalid network config:\ninvalid auxiliary address a: invalid address',
      },
      'POST /networks/create {"Name":"pooled","IPAM":{"Config":[{"Subnet":"10.99.0.0/16","AuxiliaryAddresses":{"a":"10.98.0.9"}}]}}': {
        status: 400,
        message: "invalid network config:\ninvalid auxiliary address a: parent subnet 10.99.0.0/16 doesn't contain this address",
      },
      'POST /networks/create {"Name":"overlapping","IPAM":{"Config":[{"Subnet":"10.77.0.0/24"}]}}': {
        message: 'invalid pool request: Pool overlaps with other one on this address space',
      },
      'DELETE /networks/pooled': { status: 204, message: '', type: '', body: 'empty' },
    },
  },
  {
    why: 'errors are documents for every version',
    answers: {
      'v1.11 GET /info': {
        message: 'client version 1.11 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
        type: 'application/json',
        body: '{}',
      },
      'v1 GET /info': {
        message: 'client version 1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
        type: 'application/json',
        body: '{}',
      },
    },
  },
  {
    why: 'HEAD is GET without the body',
    answers: {
      'HEAD /nodes': { status: 503 },
      'HEAD /services': { status: 503 },
      'HEAD /tasks': { status: 503 },
      'HEAD /secrets': { status: 503 },
      'HEAD /configs': { status: 503 },
    },
  },
];
