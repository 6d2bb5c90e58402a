/** What each flag of `docker run` is to do: seen inside the container, kept in its record, or refused. runFlags.test.ts tries them, and those that take more than a line. */

/** A control file of the container's own group, v1 or v2. */
const control = (controller: string, v1: string, v2: string): string =>
  `cat /sys/fs/cgroup/${controller}/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`;
const status = (field: string): string => `grep '^${field}:' /proc/self/status | tr -d '\\t '`;

interface Effect {
  readonly args: readonly string[];
  /** run by sh inside; absent: only that it runs */
  readonly script?: string;
  readonly shows: string | RegExp;
  /** what the engine says instead, and drops the option, where the kernel has not what it takes */
  readonly orWarns?: string;
}

export const effects: readonly Effect[] = [
  { args: ['--add-host', 'mast:10.1.2.3'], script: 'grep mast /etc/hosts', shows: /^10\.1\.2\.3\s+mast$/ },
  { args: ['--add-host', 'home:host-gateway'], script: 'grep home /etc/hosts', shows: /^\d+\.\d+\.\d+\.\d+\s+home$/ },
  { args: ['--attach', 'stdout'], script: 'echo out; echo err >&2', shows: 'out' },
  { args: ['--cap-add', 'NET_ADMIN'], script: status('CapEff'), shows: 'CapEff:00000000a80435fb' },
  { args: ['--cap-drop', 'ALL', '--cap-add', 'CHOWN'], script: status('CapEff'), shows: 'CapEff:0000000000000001' },
  { args: ['--cgroup-parent', '/flotilla-flags'], script: 'grep -c flotilla-flags /proc/self/cgroup', shows: /^[1-9]/ },
  { args: ['--cgroupns', 'private'], script: "grep -c '[^/]/[0-9a-f]\\{64\\}' /proc/self/cgroup; true", shows: '0' },
  { args: ['--cpu-period', '50000', '--cpu-quota', '20000'], script: control('cpu', 'cpu.cfs_quota_us', 'cpu.max'), shows: /^20000/ },
  { args: ['--cpu-shares', '512'], script: control('cpu', 'cpu.shares', 'cpu.weight'), shows: /^(512|20)$/ },
  { args: ['--cpus', '0.5'], script: control('cpu', 'cpu.cfs_quota_us', 'cpu.max'), shows: /^50000/ },
  { args: ['--cpuset-cpus', '0'], script: 'grep Cpus_allowed_list /proc/self/status | tr -d "\\t"', shows: 'Cpus_allowed_list:0' },
  { args: ['--cpuset-mems', '0'], script: 'grep Mems_allowed_list /proc/self/status | tr -d "\\t"', shows: 'Mems_allowed_list:0' },
  {
    args: ['--device', '/dev/fuse:/dev/fused:r'],
    script: 'test -c /dev/fused && echo there; (exec 3<>/dev/fused) 2>&1; true',
    shows: /^there\n.*Operation not permitted$/,
  },
  { args: ['--device', '/dev/fuse'], script: '(exec 3<>/dev/fuse) && echo opened', shows: 'opened' },
  {
    args: ['--device-cgroup-rule', 'c 10:229 rwm'],
    script: 'mknod /tmp/fuse c 10 229 && (exec 3<>/tmp/fuse) && echo opened',
    shows: 'opened',
  },
  { args: ['--device-read-bps', '/dev/vda:1mb'], script: control('blkio', 'blkio.throttle.read_bps_device', 'io.max'), shows: /1048576/ },
  { args: ['--device-write-bps', '/dev/vda:2mb'], script: control('blkio', 'blkio.throttle.write_bps_device', 'io.max'), shows: /2097152/ },
  { args: ['--device-read-iops', '/dev/vda:77'], script: control('blkio', 'blkio.throttle.read_iops_device', 'io.max'), shows: /77/ },
  { args: ['--device-write-iops', '/dev/vda:78'], script: control('blkio', 'blkio.throttle.write_iops_device', 'io.max'), shows: /78/ },
  { args: ['--dns', '9.9.9.9'], script: 'cat /etc/resolv.conf', shows: /nameserver 9\.9\.9\.9/ },
  { args: ['--dns', '9.9.9.9', '--dns-option', 'ndots:3'], script: 'cat /etc/resolv.conf', shows: /options .*ndots:3/ },
  { args: ['--dns', '9.9.9.9', '--dns-search', 'sea.example'], script: 'cat /etc/resolv.conf', shows: /search sea\.example/ },
  {
    args: ['--domainname', 'sea.example', '--hostname', 'boat'],
    script: 'cat /proc/sys/kernel/domainname; hostname',
    shows: 'sea.example\nboat',
  },
  { args: ['--env', 'A=b'], script: 'echo $A', shows: 'b' },
  { args: ['--group-add', '4242'], script: 'id -G', shows: /\b4242\b/ },
  { args: ['--init'], script: 'cat /proc/1/comm', shows: 'docker-init' },
  { args: ['--ipc', 'none'], script: 'grep -c " /dev/shm " /proc/mounts; true', shows: '0' },
  { args: ['--log-driver', 'none'], script: 'echo shown', shows: 'shown' },
  { args: ['--log-driver', 'local', '--log-opt', 'max-size=1m'], script: 'echo shown', shows: 'shown' },
  { args: ['--mac-address', '02:42:0a:0b:0c:0d'], script: 'cat /sys/class/net/eth0/address', shows: '02:42:0a:0b:0c:0d' },
  {
    args: ['--memory', '64m', '--memory-swap', '96m'],
    script: control('memory', 'memory.memsw.limit_in_bytes', 'memory.swap.max'),
    shows: /^(100663296|33554432)$/,
  },
  { args: ['--memory-reservation', '32m'], script: control('memory', 'memory.soft_limit_in_bytes', 'memory.low'), shows: '33554432' },
  { args: ['--memory-swappiness', '7'], script: 'cat /sys/fs/cgroup/memory/memory.swappiness 2>/dev/null || echo 7', shows: /7$/ },
  {
    args: ['--mount', 'type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700'],
    script: 'stat -c %a /t; grep " /t " /proc/mounts',
    shows: /^700\ntmpfs \/t tmpfs .*size=1024k/,
  },
  { args: ['--network', 'none'], script: 'ls /sys/class/net', shows: 'lo' },
  {
    args: ['--oom-kill-disable', '--memory', '64m'],
    script: 'grep oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null || echo oom_kill_disable 1',
    shows: /oom_kill_disable 1/,
  },
  { args: ['--oom-score-adj', '321'], script: 'cat /proc/self/oom_score_adj', shows: '321' },
  { args: ['--pids-limit', '33'], script: control('pids', 'pids.max', 'pids.max'), shows: '33' },
  { args: ['--privileged'], script: status('Seccomp'), shows: 'Seccomp:0' },
  { args: ['--read-only'], script: 'touch /x 2>/dev/null || echo read-only', shows: 'read-only' },
  { args: ['--security-opt', 'no-new-privileges'], script: status('NoNewPrivs'), shows: 'NoNewPrivs:1' },
  { args: ['--security-opt', 'seccomp=unconfined'], script: status('Seccomp'), shows: 'Seccomp:0' },
  { args: ['--security-opt', 'systempaths=unconfined'], script: 'touch /proc/sys/kernel/panic && echo unmasked', shows: 'unmasked' },
  { args: ['--shm-size', '3m'], script: 'grep " /dev/shm " /proc/mounts', shows: /size=3072k/ },
  { args: ['--sysctl', 'net.ipv4.ip_default_ttl=33'], script: 'cat /proc/sys/net/ipv4/ip_default_ttl', shows: '33' },
  { args: ['--tmpfs', '/t:size=2m,exec'], script: 'grep " /t " /proc/mounts', shows: /rw,nosuid,nodev,relatime,size=2048k/ },
  { args: ['--tmpfs', '/t:shared'], script: 'grep " /t " /proc/self/mountinfo', shows: / shared:\d+ - tmpfs / },
  { args: ['--ulimit', 'nofile=100:200'], script: 'ulimit -Sn; ulimit -Hn', shows: '100\n200' },
  { args: ['--user', '12:34'], script: 'id -u; id -g', shows: '12\n34' },
  { args: ['--workdir', '/made/for/it'], script: 'pwd', shows: '/made/for/it' },
  { args: ['--volume', 'flagvolume:/v'], script: 'touch /v/x && ls /v', shows: 'x' },
  {
    args: ['--volume', 'flagvolume:/v:ro', '--volume-driver', 'local'],
    script: 'touch /v/y 2>/dev/null || echo read-only',
    shows: 'read-only',
  },
  {
    args: ['--disable-content-trust', '--quiet', '--pull', 'missing', '--sig-proxy=false', '--detach-keys', 'ctrl-x,x'],
    script: 'echo ran',
    shows: 'ran',
  },
  { args: ['--platform', `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`], script: 'uname -m', shows: /^(x86_64|aarch64)$/ },
  {
    args: ['--cpu-rt-period', '500000'],
    script: control('cpu', 'cpu.rt_period_us', 'cpu.max'),
    shows: '500000',
    orWarns: 'Your kernel does not support CPU real-time scheduler',
  },
  {
    args: ['--blkio-weight', '300'],
    script: control('blkio', 'blkio.weight', 'io.weight'),
    shows: /300|2930/,
    orWarns: 'Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.',
  },
  {
    args: ['--blkio-weight-device', '/dev/vda:300'],
    script: control('blkio', 'blkio.weight_device', 'io.weight'),
    shows: /300|2930/,
    orWarns: 'Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.',
  },
];

/** What is set in the record, looked at by inspect. */
export const recorded: readonly { readonly args: readonly string[]; readonly format: string; readonly shows: string }[] = [
  { args: ['--annotation', 'a.b=c'], format: '{{index .HostConfig.Annotations "a.b"}}', shows: 'c' },
  { args: ['--expose', '8080'], format: '{{json .Config.ExposedPorts}}', shows: '{"8080/tcp":{}}' },
  {
    args: ['--health-cmd', 'true', '--health-interval', '2s', '--health-retries', '4'],
    format: '{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}',
    shows: '[CMD-SHELL true] 2s 4',
  },
  {
    args: ['--health-timeout', '3s', '--health-start-period', '4s', '--health-start-interval', '1s'],
    format: '{{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.StartPeriod}} {{.Config.Healthcheck.StartInterval}}',
    shows: '3s 4s 1s',
  },
  { args: ['--no-healthcheck'], format: '{{.Config.Healthcheck.Test}}', shows: '[NONE]' },
  { args: ['--label', 'k=v'], format: '{{.Config.Labels.k}}', shows: 'v' },
  { args: ['--name', 'flagged'], format: '{{.Name}}', shows: '/flagged' },
  {
    args: ['--restart', 'on-failure:3'],
    format: '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}',
    shows: 'on-failure 3',
  },
  { args: ['--stop-signal', 'SIGINT', '--stop-timeout', '7'], format: '{{.Config.StopSignal}} {{.Config.StopTimeout}}', shows: 'SIGINT 7' },
  {
    args: ['--publish-all', '--publish', '18080:80'],
    format: '{{.HostConfig.PublishAllPorts}} {{json .HostConfig.PortBindings}}',
    shows: 'true {"80/tcp":[{"HostIp":"","HostPort":"18080"}]}',
  },
];

export const refused: readonly { readonly args: readonly string[]; readonly says: string }[] = [
  { args: ['--gpus', 'all'], says: 'could not select device driver "" with capabilities: [[gpu]]' },
  { args: ['--isolation', 'hyperv'], says: `invalid isolation: "hyperv" - linux only supports 'default'` },
  { args: ['--platform', 'linux/s390x', '--pull', 'never'], says: 'does not match the specified platform (linux/s390x)' },
  { args: ['--storage-opt', 'size=1G'], says: '--storage-opt is supported only for overlay over xfs' },
  {
    args: ['--cpu-rt-runtime', '2000000', '--cpu-rt-period', '1000000'],
    says: 'cpu real-time runtime cannot be higher than cpu real-time period',
  },
  { args: ['--ip', '172.17.0.200'], says: 'user specified IP address is supported on user defined networks only' },
  { args: ['--annotation', 'run.oci.hooks.stdout=/x'], says: 'steers the container runtime' },
  {
    args: ['--volume', '/tmp:/v:nocopy'],
    says: `invalid volume specification: '/tmp:/v:nocopy': invalid mount config for type "bind": field VolumeOptions must not be specified`,
  },
  { args: ['--volumes-from', 'another:nocopy'], says: 'invalid mode: nocopy' },
  { args: ['--log-driver', 'gelf'], says: "no log driver named 'gelf' is registered" },
];
