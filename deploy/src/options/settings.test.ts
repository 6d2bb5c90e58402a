import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { mergeSettings, parseDaemonFile } from './daemonFile.ts';
import { directives, type RawSettings, readFlag } from './directives.ts';
import { fixedDirectives } from './fixedDirectives.ts';
import { formatHost, parseHost } from './hosts.ts';
import { checkSettings, loadSettings } from './settings.ts';

const scratch = mkdtempSync(join(tmpdir(), 'flotilla-options-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** What a command line of `flag → words` is in daemon.json's shape. */
function fromFlags(flags: Record<string, (string | true)[]>): RawSettings {
  return new Map(
    Object.entries(flags).map(([flag, words]) => {
      const directive = [...directives, ...fixedDirectives].find((candidate) => candidate.flag.split(/[ ,]+/).includes(flag));
      if (directive === undefined) throw new Error(`no such flag: ${flag}`);
      return [directive.key, readFlag(directive, words)];
    }),
  );
}

describe('hosts', () => {
  const cases: [string, boolean, string][] = [
    ['unix:///run/x.sock', false, 'unix:///run/x.sock'],
    ['unix://', false, 'unix:///var/run/docker.sock'],
    ['tcp://0.0.0.0:2375', false, 'tcp://0.0.0.0:2375'],
    ['tcp://', false, 'tcp://localhost:2375'],
    ['tcp://', true, 'tcp://localhost:2376'],
    ['tcp://:4000', false, 'tcp://localhost:4000'],
    ['127.0.0.1:4000', false, 'tcp://127.0.0.1:4000'],
    ['tcp://[::1]:4000', false, 'tcp://[::1]:4000'],
    ['fd://', false, 'fd://'],
  ];
  it.each(cases)('%s (tls %s) is %s', (given, tls, wanted) => {
    expect(formatHost(parseHost(given, tls))).toBe(wanted);
  });

  it.each([
    ['udp://127.0.0.1:1', "invalid bind address (udp://127.0.0.1:1): unsupported proto 'udp'"],
    ['npipe:////./pipe/x', "unsupported proto 'npipe'"],
    ['tcp://1.2.3.4:99999', 'invalid port 99999'],
    ['unix://relative', 'the path must be absolute'],
    ['tcp://[zz]:1', 'invalid IPv6 address zz'],
  ])('%s is refused', (given, words) => {
    expect(() => parseHost(given, false)).toThrow(words);
  });
});

describe('flags', () => {
  it('become engine options', () => {
    const settings = checkSettings(
      fromFlags({
        '--registry-mirror': ['https://mirror.example', 'http://10.0.0.1:5000/'],
        '--insecure-registry': ['10.0.0.0/8', 'registry.lab:5000'],
        '--bip': ['172.30.0.1/24'],
        '--mtu': ['1400'],
        '--icc': ['false'],
        '--default-address-pool': ['base=10.10.0.0/16,size=24', 'base=fd00::/48,size=64'],
        '--dns': ['1.1.1.1', '2606:4700::1111'],
        '--dns-search': ['lab.example'],
        '--log-driver': ['local'],
        '--log-opt': ['max-size=10m', 'max-file=3'],
        '--label': ['a=1', 'b=two=2'],
        '--add-runtime': ['fast=/usr/bin/crun'],
        '--default-runtime': ['fast'],
        '--default-ulimit': ['nofile=1024:2048', 'core=0'],
        '--max-concurrent-downloads': ['7'],
        '--debug': [true],
      }),
    );
    expect(settings.engineOptions).toEqual({
      registryMirrors: ['https://mirror.example/', 'http://10.0.0.1:5000/'],
      insecureRegistries: ['10.0.0.0/8', 'registry.lab:5000'],
      bip: '172.30.0.1/24',
      mtu: 1400,
      icc: false,
      hostGatewayIps: [],
      defaultNetworkOptions: {},
      defaultAddressPools: [
        { base: '10.10.0.0/16', size: 24 },
        { base: 'fd00::/48', size: 64 },
      ],
      dns: ['1.1.1.1', '2606:4700::1111'],
      dnsSearch: ['lab.example'],
      dnsOptions: [],
      logDriver: 'local',
      logOptions: { 'max-size': '10m', 'max-file': '3' },
      labels: ['a=1', 'b=two=2'],
      runtimes: { fast: { path: '/usr/bin/crun' } },
      defaultRuntime: 'fast',
      defaultUlimits: { nofile: { Name: 'nofile', Soft: 1024, Hard: 2048 }, core: { Name: 'core', Soft: 0, Hard: 0 } },
      hosts: [],
      maxConcurrentDownloads: 7,
      storageOptions: [],
      debug: true,
    });
    expect(settings.logLevel).toBe('debug');
    expect(settings.dataRoot).toBe('/var/lib/flotilla');
  });

  it.each<[string, string, string]>([
    ['--registry-mirror', 'ftp://x', "must use either 'https://' or 'http://'"],
    ['--registry-mirror', 'not a url', 'invalid mirror: "not a url" is not a valid URI'],
    ['--registry-mirror', 'https://x/path', 'invalid mirror: path, query, or fragment at end of the URI'],
    ['--registry-mirror', 'https://u:p@x', 'invalid mirror: username/password not allowed in URI'],
    ['--image-gc-high', '101', 'invalid image gc thresholds: 91 to 101 percent'],
    ['--image-gc-low', '50', '--image-gc-low says nothing without --image-gc-high'],
    ['--upstreams', 'upstreams.json', '--upstreams upstreams.json: must be an absolute path'],
    ['--insecure-registry', 'https://x', "insecure registry https://x should not contain '://'"],
    ['--bip', '10.0.0.1', 'invalid CIDR address: 10.0.0.1'],
    ['--bip', '10.0.0.1/33', 'invalid CIDR address: 10.0.0.1/33'],
    ['--mtu', '-5', 'invalid default MTU value: -5'],
    ['--mtu', 'big', 'invalid argument "big" for "--mtu" flag'],
    ['--icc', 'maybe', 'invalid argument "maybe" for "--icc" flag'],
    ['--ip', '300.1.1.1', 'IP address is not correctly formatted: 300.1.1.1'],
    ['--dns', 'example.org', 'IP address is not correctly formatted: example.org'],
    ['--dns-search', '-bad-', '-bad- is not a valid domain'],
    ['--default-address-pool', 'base=10.0.0.0/16', 'must be base=CIDR,size=BITS'],
    ['--default-address-pool', 'base=10.0.0.0/16,size=8', 'the size must be from 16 to 30'],
    ['--default-address-pool', 'base=10.0.0.0/16,size=24,x=1', "unexpected key 'x'"],
    ['--log-driver', 'syslog', "no log driver named 'syslog' is registered"],
    ['--log-opt', 'colour=red', "unknown log opt 'colour' for json-file log driver"],
    ['--label', 'nolabel', 'bad attribute format: nolabel'],
    ['--add-runtime', 'runc=/x', "runtime name 'runc' is reserved"],
    ['--default-runtime', 'kata', "specified default runtime 'kata' does not exist"],
    ['--default-ulimit', 'nofile=9:3', 'ulimit soft limit must be less than or equal to hard limit: 9 > 3'],
    ['--default-ulimit', 'files=9', 'invalid ulimit type: files'],
    ['--max-concurrent-downloads', '0', 'invalid max concurrent downloads: 0'],
    ['--storage-opt', 'size=1G', 'overlay2: unknown option size'],
    ['--log-level', 'loud', 'invalid logging level: loud'],
    ['--host', 'tcp://0.0.0.0:2375', 'without TLS gives root on this host'],
  ])('%s %s is refused', (flag, word, message) => {
    expect(() => checkSettings(fromFlags({ [flag]: [word] }))).toThrow(message);
  });

  it('take a tcp socket without TLS only when that is said', () => {
    expect(checkSettings(fromFlags({ '--host': ['tcp://127.0.0.1:2375'], '--insecure-tcp': [true] })).hosts).toHaveLength(1);
  });

  it('name the certificate that is not there', () => {
    const flags = fromFlags({ '--tlsverify': [true], '--tlscacert': [join(scratch, 'no-ca.pem')] });
    expect(() => checkSettings(flags)).toThrow(`could not read CA certificate "${join(scratch, 'no-ca.pem')}"`);
  });

  it('say what containers have that do not ask for it', () => {
    const profile = join(scratch, 'seccomp.json');
    writeFileSync(profile, '{"defaultAction": "SCMP_ACT_ALLOW"}');
    const settings = checkSettings(
      fromFlags({
        '--init': [true],
        '--default-shm-size': ['1.5g'],
        '--default-ipc-mode': ['shareable'],
        '--default-cgroupns-mode': ['host'],
        '--no-new-privileges': ['true'],
        '--seccomp-profile': [profile],
      }),
    );
    expect(settings.engineOptions).toMatchObject({
      init: true,
      defaultShmSizeBytes: 1.5 * 1024 ** 3,
      defaultIpcMode: 'shareable',
      defaultCgroupnsMode: 'host',
      noNewPrivileges: true,
      seccompProfile: profile,
    });
  });

  it.each<[string, string, string]>([
    ['--default-shm-size', '64 cats', `invalid size: '64 cats'`],
    ['--default-shm-size', '0', `invalid size: '0'`],
    ['--default-ipc-mode', 'host', 'Default IPC mode setting "host" not supported'],
    ['--default-cgroupns-mode', 'shared', 'Default cgroup namespace mode setting "shared" not supported'],
    ['--seccomp-profile', '/nowhere/profile.json', 'opening seccomp profile (/nowhere/profile.json) failed: '],
    ['--ip6tables', 'false', '--ip6tables=false is not supported: --iptables=false leaves'],
    ['--bridge', 'a b', 'invalid interface name: "a b"'],
    ['--fixed-cidr-v6', '10.0.0.0/8', 'invalid CIDR address: 10.0.0.0/8'],
    ['--default-gateway', 'fd00::1', 'IP address is not correctly formatted: fd00::1'],
    ['--default-network-opt', 'bridge=mtu', 'invalid argument "mtu" for "--default-network-opt" flag: must be key=value'],
    ['--https-proxy', 'http://[', 'invalid proxy: "http://["'],
    ['--storage-driver', 'btrfs', '--storage-driver=btrfs is not supported: overlay2'],
  ])('%s %s is refused', (flag, word, message) => {
    expect(() => checkSettings(fromFlags({ [flag]: [word] }))).toThrow(message);
  });

  it('refuse an exec root too long for its sockets', () => {
    expect(() => checkSettings(new Map([['exec-root', `/${'x'.repeat(90)}`]]))).toThrow('"--exec-root" flag: at most');
  });
});

describe('daemon.json', () => {
  it('takes the keys of dockerd', () => {
    const file = parseDaemonFile(
      'd.json',
      JSON.stringify({
        hosts: ['unix:///x.sock'],
        'log-opts': { 'max-size': '1m' },
        'live-restore': true,
        'storage-driver': 'overlay2',
        features: { buildkit: true },
        icc: false,
      }),
    );
    expect(Object.fromEntries(file)).toEqual({
      hosts: ['unix:///x.sock'],
      'log-opts': { 'max-size': '1m' },
      'live-restore': true,
      'storage-driver': 'overlay2',
      features: { buildkit: true },
      icc: false,
    });
  });

  it.each([
    ['{"features": {"buildkit": false}}', true],
    ['{"features": {"buildkit": true}}', undefined],
    ['{}', undefined],
  ])('%s: the classic builder is what clients are told of: %s', (text, classicBuilder) => {
    expect(checkSettings(parseDaemonFile('d.json', text)).engineOptions.classicBuilder).toBe(classicBuilder);
  });

  it.each<[string, string]>([
    ['{"colour": 1, "shape": 2}', "the following directives don't match any configuration option: colour, shape"],
    ['{"icc": "yes"}', 'icc: a boolean is wanted, not "yes"'],
    ['{"hosts": "unix:///x"}', 'hosts: an array of strings is wanted'],
    ['{"userns-remap": "default"}', 'userns-remap: "default" is not supported'],
    ['{"features": {"containerd-snapshotter": true}}', 'features: {"containerd-snapshotter":true} is not supported'],
    ['{"authorization-plugins": ["a"]}', 'the directive authorization-plugins is not supported'],
    ['{"proxies": {"ftp-proxy": "x"}}', 'proxies: an object of http-proxy, https-proxy, no-proxy is wanted, not {"ftp-proxy":"x"}'],
    ['{"default-network-opts": {"bridge": {"mtu": 1}}}', 'default-network-opts: an object of objects of strings is wanted'],
    ['[1]', 'must be a JSON object'],
    ['{', 'unable to configure the Docker daemon with file d.json:'],
  ])('%s is refused', (text, message) => {
    expect(() => parseDaemonFile('d.json', text)).toThrow(message);
  });

  it('says of networks and proxies what the flags say', () => {
    const flags = fromFlags({
      '--bridge': ['br0'],
      '--ipv6': [true],
      '--fixed-cidr-v6': ['fd00:1::/64'],
      '--default-gateway': ['10.0.0.9'],
      '--host-gateway-ip': ['10.0.0.7'],
      '--iptables': ['false'],
      '--ip6tables': ['false'],
      '--ip-forward': ['false'],
      '--ip-masq': ['false'],
      '--default-network-opt': ['bridge=com.docker.network.driver.mtu=1400', 'bridge=a=b=c'],
      '--http-proxy': ['http://proxy:3128'],
      '--no-proxy': ['a,b'],
    });
    const file = parseDaemonFile(
      'd.json',
      JSON.stringify({
        bridge: 'br0',
        ipv6: true,
        'fixed-cidr-v6': 'fd00:1::/64',
        'default-gateway': '10.0.0.9',
        'host-gateway-ip': '10.0.0.7',
        iptables: false,
        ip6tables: false,
        'ip-forward': false,
        'ip-masq': false,
        'default-network-opts': { bridge: { 'com.docker.network.driver.mtu': '1400', a: 'b=c' } },
        proxies: { 'http-proxy': 'http://proxy:3128', 'no-proxy': 'a,b' },
      }),
    );
    expect(checkSettings(flags).engineOptions).toEqual(checkSettings(file).engineOptions);
    expect(checkSettings(file).engineOptions).toMatchObject({
      bridge: 'br0',
      fixedCidrV6: 'fd00:1::/64',
      hostGatewayIps: ['10.0.0.7'],
      iptables: false,
      httpProxy: 'http://proxy:3128',
      defaultNetworkOptions: { bridge: { a: 'b=c' } },
    });
  });

  it.each<[Record<string, unknown>, string]>([
    [{ bridge: 'br0', bip: '10.0.0.1/24' }, 'You specified -b & --bip, mutually exclusive options. Please specify only one'],
    [{ iptables: false, icc: false }, 'You specified --iptables=false with --icc=false.'],
    [{ 'host-gateway-ips': ['10.0.0.1', '10.0.0.2'] }, 'only one IPv4 host gateway IP address can be specified'],
  ])('%j is refused as a whole', (file, message) => {
    expect(() => checkSettings(parseDaemonFile('d.json', JSON.stringify(file)))).toThrow(message);
  });

  it('conflicts with a flag in the words of dockerd', () => {
    const flags = fromFlags({ '--label': ['a=1', 'b=2'] });
    expect(() => mergeSettings(flags, new Map([['labels', ['c=3']]]), '/etc/x.json')).toThrow(
      'unable to configure the Docker daemon with file /etc/x.json: the following directives are specified both as a flag and in the configuration file: labels: (from flag: [a=1 b=2], from file: [c=3])',
    );
  });

  it('is read where it is named, and flags fill the rest', () => {
    const path = join(scratch, 'daemon.json');
    writeFileSync(path, JSON.stringify({ 'data-root': '/srv/flotilla', mtu: 1400 }));
    const settings = loadSettings(fromFlags({ '--icc': ['false'] }), path);
    expect(settings.dataRoot).toBe('/srv/flotilla');
    expect(settings.engineOptions).toMatchObject({ mtu: 1400, icc: false });
    expect(() => loadSettings(new Map(), join(scratch, 'absent.json'))).toThrow('no such file or directory');
  });
});
