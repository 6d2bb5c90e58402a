/** Sandboxes on a real kernel: addresses, packets, published ports, names, and what is left after them. */
import type { ChildProcess } from 'node:child_process';
import { appendFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connectOutside, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { json, NetworkVolumeStack, sandboxSpec } from './stack.ts';
import { echoProgram, fetchFrom, fetchScript, senderProgram, serverScript, upstreamProgram } from './traffic.ts';

let stack: NetworkVolumeStack;
let outside: Awaited<ReturnType<typeof connectOutside>>;

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
  outside = await connectOutside(stack.host);
});
afterAll(() => stack.dispose());

describe('the default bridge', () => {
  it('gives addresses from 172.17.0.2 on, and packets pass', async () => {
    const [one, two] = [await stack.prepare({ hostname: 'alpha', domainname: 'lab.test' }), await stack.prepare()];
    expect(one.settings).toMatchObject({ IPAddress: '172.17.0.2', Gateway: '172.17.0.1' });
    expect(one.settings.Networks.bridge).toMatchObject({ IPAddress: '172.17.0.2', MacAddress: '02:42:ac:11:00:02', DNSNames: null });
    expect(two.settings.IPAddress).toBe('172.17.0.3');
    expect(await stack.inside(one, 'ping -c1 -W2 172.17.0.3')).toContain('1 received');
    expect(await stack.inside(one, 'ip -4 route')).toContain('default via 172.17.0.1 dev eth0');
    expect(await stack.inside(one, `ping -c1 -W2 ${outside.outsideAddress}`)).toContain('1 received');
    expect(readFileSync(one.files.hosts, 'utf8')).toContain('172.17.0.2\talpha.lab.test alpha\n');
    expect(readFileSync(one.files.hostname, 'utf8')).toBe('alpha\n');
    expect(readFileSync(one.files.resolvConf, 'utf8')).toMatch(/^nameserver /m);
    const network = await stack.inspectNetwork('bridge');
    expect(Object.keys(network.Containers as object)).toEqual(expect.arrayContaining([one.id, two.id]));
    await stack.release(one, two);
    const again = await stack.prepare();
    expect(again.settings.IPAddress).toBe('172.17.0.2');
    await stack.release(again);
  });

  it('is given once, however often it is asked for', async () => {
    const spec = sandboxSpec();
    const [one, two] = await Promise.all([stack.sandboxes.prepare({ spec }), stack.sandboxes.prepare({ spec })]);
    expect(two).toEqual(one);
    await stack.release({ id: spec.containerId });
    await stack.release({ id: spec.containerId });
  });

  it('never gives one address twice to many at once', async () => {
    const sandboxes = await Promise.all(Array.from({ length: 12 }, () => stack.prepare()));
    expect(new Set(sandboxes.map(({ settings }) => settings.IPAddress)).size).toBe(12);
    // All join a network that has room for five of them: each address once, and words for those who get none.
    const id = await stack.createNetwork({
      Name: 'tight',
      IPAM: { Config: [{ Subnet: '10.57.0.0/28', IPRange: '10.57.0.0/29', AuxiliaryAddresses: { printer: '10.57.0.4' } }] },
    });
    const joined = await Promise.allSettled(
      sandboxes.map(async (sandbox) => {
        const spec = sandboxSpec({ containerId: sandbox.id });
        const { networkSettingsJson } = await stack.sandboxes.connect({ network: 'tight', spec, endpointJson: json({}), running: true });
        return JSON.parse(Buffer.from(networkSettingsJson).toString()).Networks.tight.IPAddress as string;
      }),
    );
    const given = joined.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(given.sort()).toEqual([2, 3, 5, 6, 7].map((last) => `10.57.0.${last}`));
    for (const result of joined) {
      if (result.status === 'rejected') {
        expect(result.reason.message).toBe(`no available IPv4 addresses on this network's address pools: tight (${id})`);
      }
    }
    await stack.release(...sandboxes);
    await stack.networks.remove({ network: 'tight' });
  });
});

describe('other modes', () => {
  it('has host and none', async () => {
    const host = await stack.prepare({ networkMode: 'host', hostname: '' });
    expect(host.netns).toBe('');
    expect(Object.keys(host.settings.Networks)).toEqual(['host']);
    const none = await stack.prepare({ networkMode: 'none' });
    expect((await stack.inside(none, 'ip -o link')).trim().split('\n')).toHaveLength(1);
    expect(await stack.inside(none, 'ip -o link')).toContain('lo');
    await stack.release(host, none);
  });

  it('refuses a network that is not there', async () => {
    await expect(stack.prepare({ networkMode: 'nowhere' })).rejects.toThrow('network nowhere not found');
  });
});

describe('published ports', () => {
  it('are reached from localhost, by IPv4 and IPv6, from outside, and from containers; the source address stays', async () => {
    const web = await stack.prepare({ ports: { '80/tcp': [{ HostPort: '8080' }] } });
    expect(web.settings.Ports['80/tcp']).toEqual([
      { HostIp: '0.0.0.0', HostPort: '8080' },
      { HostIp: '::', HostPort: '8080' },
    ]);
    await stack.serve(web, 80, 'hello');
    expect(await fetchFrom(stack.host, '127.0.0.1', 8080)).toBe('hello');
    expect(await fetchFrom(stack.host, '::1', 8080)).toBe('hello');
    expect(await fetchFrom(stack.host, outside.address, 8080)).toBe('hello');
    expect(await fetchFrom(outside.outside, outside.address, 8080)).toBe('hello');
    const other = await stack.prepare();
    expect((await stack.inside(other, fetchScript('172.17.0.1', 8080))).trim()).toBe('hello');
    expect((await stack.inside(web, fetchScript('172.17.0.1', 8080))).trim()).toBe('hello');
    // Outside may only use what is published, and never the host's loopback.
    await outside.outside.sh(`ip route add 172.17.0.0/16 via ${outside.address}`);
    expect(await fetchFrom(outside.outside, web.settings.IPAddress, 80)).toBe('');
    await stack.release(web, other);
    expect(await fetchFrom(stack.host, '127.0.0.1', 8080)).toBe('');
  });

  it('are refused when taken, in dockerd’s words, and nothing stays', async () => {
    const one = await stack.prepare({ ports: { '80/tcp': [{ HostPort: '8081' }] } });
    await expect(stack.prepare({ containerName: 'second', ports: { '80/tcp': [{ HostPort: '8081' }] } })).rejects.toThrow(
      /^failed to set up container networking: driver failed programming external connectivity on endpoint second \([0-9a-f]{64}\): Bind for 0\.0\.0\.0:8081 failed: port is already allocated/,
    );
    await expect(stack.listening(stack.host.spawn(process.execPath, ['-e', serverScript(8081, 'thief')]))).rejects.toThrow('ended');
    const server = await stack.listening(stack.host.spawn(process.execPath, ['-e', serverScript(8082, 'host')]));
    await expect(stack.prepare({ ports: { '80/tcp': [{ HostPort: '8082' }] } })).rejects.toThrow('address already in use');
    server.kill('SIGKILL');
    await stack.release(one);
    const free = await stack.prepare({ ports: { '80/tcp': [{ HostPort: '8081' }] } });
    await stack.release(free);
  });

  it('by SCTP are refused clearly where the kernel has none', async () => {
    const hasSctp = (await stack.host.run('/usr/bin/python3', ['-c', 'import socket; socket.socket(2, 1, 132)'])).code === 0;
    const asked = stack.prepare({ ports: { '9/sctp': [{ HostPort: '9009' }] } });
    if (hasSctp) {
      const sandbox = await asked;
      expect(await stack.host.sh('nft list map inet flotilla published4_any')).toContain('sctp . 9009');
      await stack.release(sandbox);
    } else {
      await expect(asked).rejects.toThrow('failed to bind host port for 0.0.0.0:9009/sctp: protocol not supported');
      expect(await stack.host.sh('nft list map inet flotilla published4_any')).not.toContain('9009');
    }
  });

  it('may be thousands, which are free again when their container is gone', async () => {
    const ports = Object.fromEntries(
      Array.from({ length: 1_300 }, (_, index) => [`${index + 1}/tcp`, [{ HostPort: `${20_000 + index}` }]]),
    );
    const published = async (): Promise<number> =>
      (await stack.host.sh('nft list map inet flotilla published4_any')).match(/tcp \. 2\d{4} :/g)?.length ?? 0;
    for (let round = 0; round < 2; round += 1) {
      const many = await stack.prepare({ ports });
      expect(await published()).toBe(1_300);
      await stack.release(many);
      expect(await published()).toBe(0);
    }
  });

  it('get random host ports and ranges', async () => {
    const random = await stack.prepare({ exposedPorts: ['80/tcp', '53/udp'], publishAllPorts: true });
    const port = Number(random.settings.Ports['80/tcp']?.[0]?.HostPort);
    expect(port).toBeGreaterThanOrEqual(32_768);
    expect(random.settings.Ports['53/udp']?.[0]).toBeDefined();
    const ranged = [
      await stack.prepare({ ports: { '80/tcp': [{ HostPort: '9000-9001' }] } }),
      await stack.prepare({ ports: { '80/tcp': [{ HostPort: '9000-9001' }] } }),
    ];
    expect(ranged.map(({ settings }) => settings.Ports['80/tcp']?.[0]?.HostPort)).toEqual(['9000', '9001']);
    await expect(stack.prepare({ ports: { '80/tcp': [{ HostPort: '9000-9001' }] } })).rejects.toThrow('port is already allocated');
    await stack.release(random, ...ranged);
  });

  it('follow the gateway when networks come and go, and are published again with a network that has one', async () => {
    await stack.createNetwork({ Name: 'ahead' });
    const ports = { '80/tcp': [{ HostPort: '8086' }] };
    const spec = sandboxSpec({ ports });
    const web = await stack.prepare({ ...spec, ports });
    const server = await stack.serve(web, 80, 'here');
    const call = { containerId: web.id, containerName: spec.containerName, force: false, running: true };
    const connect = async (network: string, endpoint: object) => {
      const { networkSettingsJson } = await stack.sandboxes.connect({ network, spec, endpointJson: json(endpoint), running: true });
      return JSON.parse(Buffer.from(networkSettingsJson).toString());
    };
    const publishedTo = async () =>
      /"tcp", 8086\]\}, \{"concat": \["([0-9.]+)"/.exec(await stack.host.sh('nft -j list map inet flotilla published4_any'))?.[1];
    expect(await publishedTo()).toBe(web.settings.IPAddress);
    const ahead = (await connect('ahead', { GwPriority: 1 })).Networks.ahead.IPAddress;
    expect(await publishedTo()).toBe(ahead);
    for (const address of ['127.0.0.1', '::1', outside.address]) expect(await fetchFrom(stack.host, address, 8086)).toBe('here');
    await stack.sandboxes.disconnect({ ...call, network: 'ahead' });
    expect(await publishedTo()).toBe(web.settings.IPAddress);
    expect(await fetchFrom(stack.host, '::1', 8086)).toBe('here');
    await stack.sandboxes.disconnect({ ...call, network: 'bridge' });
    expect(await publishedTo()).toBeUndefined();
    expect((await connect('bridge', {})).Ports['80/tcp'][0]).toEqual({ HostIp: '0.0.0.0', HostPort: '8086' });
    expect(await fetchFrom(outside.outside, outside.address, 8086)).toBe('here');
    server.kill('SIGKILL');
    await stack.release(web);
    await stack.networks.remove({ network: 'ahead' });
  });

  it('give datagrams of a client that goes on sending to the container that has the port now', async () => {
    // One socket all the time: to the kernel its datagrams are one flow, that led nowhere at first and then to the old container.
    const client = outside.outside.spawn('/usr/bin/python3', ['-uc', senderProgram(outside.address, 9053)]);
    let answers: string[] = [];
    client.stdout?.on('data', (chunk: Buffer) => {
      answers = chunk.toString().trim().split('\n');
    });
    const echo = (sandbox: { netns: string }, word: string) =>
      stack.listening(stack.spawnInside(sandbox, '/usr/bin/python3', '-uc', echoProgram(9053, word)));
    await waitFor(async () => (await stack.host.sh('cat /proc/sys/net/netfilter/nf_conntrack_count')) !== '0\n', {
      what: 'the first datagrams',
    });
    const ports = { '9053/udp': [{ HostPort: '9053' }] };
    const old = await stack.prepare({ ports });
    await echo(old, 'old');
    await waitFor(() => answers.includes('old'), { what: 'an answer of the old container' });
    await stack.release(old);
    const heir = await stack.prepare();
    expect(heir.settings.IPAddress).toBe(old.settings.IPAddress);
    await echo(heir, 'heir');
    const now = await stack.prepare({ ports });
    await echo(now, 'now');
    await waitFor(() => answers.includes('now'), { what: 'an answer of the new container' });
    client.kill('SIGKILL');
    await stack.release(heir, now);
  });

  it('come back when somebody flushes the packet filter', async () => {
    const web = await stack.prepare({ ports: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8083' }] } });
    await stack.serve(web, 80, 'again');
    await stack.host.sh('nft flush ruleset');
    await waitFor(async () => (await fetchFrom(stack.host, '127.0.0.1', 8083)) === 'again', {
      timeoutMs: 5000,
      what: 'the port to come back',
    });
    expect(await fetchFrom(outside.outside, outside.address, 8083)).toBe('');
    await stack.release(web);
  });
});

describe('a host whose FORWARD drops', () => {
  it('gets one tagged jump, which goes when it is needed no more', async () => {
    const one = await stack.prepare();
    await stack.host.sh('iptables -P FORWARD DROP');
    const forward = (): Promise<string> => stack.host.sh('iptables -S');
    await waitFor(async () => (await forward()).includes('-A FORWARD -m comment --comment flotilla -j FLOTILLA-FORWARD'), {
      what: 'the jump',
    });
    expect(await stack.inside(one, `ping -c1 -W2 ${outside.outsideAddress}`)).toContain('1 received');
    await stack.createNetwork({ Name: 'late' });
    await waitFor(async () => (await forward()).includes('-A FLOTILLA-FORWARD -i br-'), { what: 'the new bridge to be let through' });
    await stack.host.sh('iptables -F FORWARD');
    await waitFor(async () => (await forward()).includes('-j FLOTILLA-FORWARD'), { what: 'the jump to come back' });
    await stack.networks.remove({ network: 'late' });
    await stack.host.sh('iptables -P FORWARD ACCEPT');
    await waitFor(async () => !(await forward()).includes('FLOTILLA'), { what: 'the jump to go' });
    await stack.release(one);
  });

  it('by rules like ufw’s and by a table of nftables of its own lets packets pass, and has its rules back as they were', async () => {
    await stack.stopService('SIGTERM');
    await stack.host.sh(`iptables-restore <<'END'
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-reject-forward -j REJECT
COMMIT
END`);
    await stack.host.sh(`nft -f - <<'END'
table inet firewall {
  chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; tcp dport 25 reject; }
  chain closed { type filter hook forward priority filter + 5; policy accept; ct state established,related accept; reject; }
}
END`);
    const theirs = async (): Promise<string> =>
      (await stack.host.sh('iptables -S')) + (await stack.host.sh('nft list table inet firewall'));
    const before = await theirs();
    await stack.startService();
    const jumps = async (): Promise<number> => (await theirs()).match(/comment "?flotilla"?/g)?.length ?? 0;
    await waitFor(async () => (await jumps()) === 3, { what: 'a jump in each chain that drops' });
    const web = await stack.prepare({ ports: { '80/tcp': [{ HostPort: '8087' }] } });
    await stack.serve(web, 80, 'through');
    expect(await fetchFrom(outside.outside, outside.address, 8087)).toBe('through');
    expect(await stack.inside(web, `ping -c1 -W2 ${outside.outsideAddress}`)).toContain('1 received');
    // Containers go on over it, and their rules are the operator's from now on.
    await stack.stopService('SIGTERM');
    expect(await jumps()).toBe(3);
    await stack.startService({ iptables: false });
    expect(await theirs()).toBe(before);
    await stack.stopService('SIGKILL');
    await stack.startService();
    await waitFor(async () => (await jumps()) === 3, { what: 'the jumps to come back' });
    await stack.release(web);
    await stack.stopService('SIGTERM');
    expect(await theirs()).toBe(before);
    await stack.startService();
    await stack.host.sh(
      'iptables -P FORWARD ACCEPT; iptables -F; iptables -X ufw-before-forward; iptables -X ufw-reject-forward; nft delete table inet firewall',
    );
    await waitFor(async () => !(await stack.host.sh('iptables -S')).includes('FLOTILLA'), { what: 'the jump to go' });
  });
});

describe('user-made networks', () => {
  const gatewayOf = async (network: string): Promise<string> => {
    const { IPAM } = (await stack.inspectNetwork(network)) as { IPAM: { Config: { Gateway: string }[] } };
    return IPAM.Config[0]?.Gateway ?? '';
  };

  it('resolve names, aliases and ids, and are isolated from each other', async () => {
    const id = await stack.createNetwork({
      Name: 'blue',
      EnableIPv6: true,
      IPAM: { Config: [{ Subnet: '10.55.0.0/24' }, { Subnet: 'fd55::/64' }] },
    });
    await stack.createNetwork({ Name: 'red' });
    const one = await stack.prepare({
      containerName: 'one',
      networkMode: 'blue',
      endpoints: { blue: { Aliases: ['web'], IPAMConfig: { IPv4Address: '10.55.0.77', IPv6Address: 'fd55::77' } } },
    });
    const two = await stack.prepare({ containerName: 'two', networkMode: 'blue' });
    const stranger = await stack.prepare({ containerName: 'stranger', networkMode: 'red' });
    expect(one.settings.Networks.blue).toMatchObject({
      IPAddress: '10.55.0.77',
      GlobalIPv6Address: 'fd55::77',
      DNSNames: ['one', 'web', one.id.slice(0, 12)],
    });
    expect(readFileSync(two.files.resolvConf, 'utf8')).toContain('nameserver 127.0.0.11\n');
    for (const name of ['one', 'web', 'WEB', 'one.blue', one.id.slice(0, 12)]) {
      expect((await stack.inside(two, `dig +short +time=2 +tries=1 @127.0.0.11 ${name} A`)).trim()).toBe('10.55.0.77');
    }
    expect((await stack.inside(two, 'dig +short +tcp +time=2 +tries=1 @127.0.0.11 web A')).trim()).toBe('10.55.0.77');
    expect((await stack.inside(two, 'dig +short +time=2 +tries=1 @127.0.0.11 one AAAA')).trim()).toBe(
      one.settings.Networks.blue?.GlobalIPv6Address,
    );
    expect((await stack.inside(two, 'dig +short +time=2 +tries=1 @127.0.0.11 -x 10.55.0.77')).trim()).toBe('one.blue.');
    expect(await stack.inside(two, 'dig +time=2 +tries=1 @127.0.0.11 one.nothing.invalid A || true')).not.toContain('10.55');
    expect(await stack.inside(two, 'ping -c1 -W2 10.55.0.77')).toContain('1 received');
    expect(await stack.inside(two, `ping -6 -c1 -W2 ${one.settings.Networks.blue?.GlobalIPv6Address}`)).toContain('1 received');
    await expect(stack.inside(stranger, 'ping -c1 -W1 10.55.0.77')).rejects.toThrow();
    await expect(stack.networks.remove({ network: 'blue' })).rejects.toThrow('has active endpoints');
    for (const IPAMConfig of [{ IPv4Address: '10.55.0.77' }, { IPv6Address: 'fd55::77' }]) {
      await expect(stack.prepare({ networkMode: 'blue', endpoints: { blue: { IPAMConfig } } })).rejects.toThrow('Address already in use');
    }
    // Of two networks the one with the higher priority leads out, whatever their names.
    const between = await stack.prepare({ networkMode: 'blue', endpoints: { blue: {}, red: { GwPriority: 1 } } });
    expect(await stack.inside(between, 'ip -4 route show default')).toBe(`default via ${await gatewayOf('red')} dev eth1 \n`);
    await stack.release(between);

    await stack.sandboxes.rename({ containerId: one.id, newName: 'uno' });
    expect((await stack.inside(two, 'dig +short +time=2 +tries=1 @127.0.0.11 uno A')).trim()).toBe('10.55.0.77');
    await stack.release(one, two, stranger);
    await stack.networks.remove({ network: id });
    await stack.networks.remove({ network: 'red' });
    expect(await stack.host.sh('ip -o link show type bridge')).not.toContain('br-');
  });

  it('answer every kind of question in turn, and ask a server of the host’s loopback about the rest', async () => {
    await stack.createNetwork({ Name: 'named', EnableIPv6: true });
    const upstreamIn = (network: string, address: string): ChildProcess =>
      stack.host.spawn('nsenter', [network, process.execPath, '-e', upstreamProgram(address)], { cwd: import.meta.dirname });
    const upstream = await stack.listening(upstreamIn('--', '127.0.0.53'));
    await stack.host.sh(`echo nameserver 127.0.0.53 >${stack.host.directory}/upstream.conf
      mount --bind ${stack.host.directory}/upstream.conf /etc/resolv.conf`);
    const wish = { networkMode: 'named', endpoints: { named: { Aliases: ['svc'] } } };
    const all = [await stack.prepare(wish), await stack.prepare(wish), await stack.prepare(wish)];
    const asker = await stack.prepare({ networkMode: 'named' });
    const dig = async (...words: string[]): Promise<string[]> =>
      (await stack.inside(asker, `dig +short +time=2 +tries=2 @127.0.0.11 ${words.join(' ')}`)).trim().split('\n');
    const addresses = all.map(({ settings }) => settings.Networks.named?.IPAddress ?? '');
    const firsts = new Set<string>();
    for (let tries = 0; tries < 40 && firsts.size < 3; tries += 1) firsts.add((await dig('svc', 'A'))[0] ?? '');
    expect([...firsts].sort()).toEqual(addresses.sort());
    expect((await dig('svc', 'AAAA')).sort()).toEqual(all.map(({ settings }) => settings.Networks.named?.GlobalIPv6Address).sort());
    expect((await dig('-x', all[0]?.settings.Networks.named?.GlobalIPv6Address ?? ''))[0]).toMatch(/^c\d+\.named\.$/);
    expect(await stack.inside(asker, 'dig +time=2 @127.0.0.11 svc MX')).toMatch(/status: NOERROR.*ANSWER: 0/s);
    // The upstream counts: the second answer is the first one, kept.
    const [first] = await dig('count.test', 'A');
    expect(first).toMatch(/^192\.0\.2\./);
    expect(await dig('count.test', 'A')).toEqual([first]);
    expect(await dig('+tcp', 'other.test', 'A')).not.toEqual([first]);
    // Too long for a datagram: cut, and whole by TCP.
    expect(await stack.inside(asker, 'dig +ignore +noedns +time=2 @127.0.0.11 big.test A')).toMatch(/flags:[^;]* tc/);
    expect(await dig('+noedns', 'big.test', 'A')).toHaveLength(60);
    expect(await stack.inside(asker, 'dig +time=2 @127.0.0.11 nothing.test A')).toContain('status: NXDOMAIN');
    // A resolver that reads the file: what is searched, and from how many dots on a name is whole.
    const dns = { dnsSearch: ['deep.test'], dnsOptions: ['ndots:3'] };
    const searcher = await stack.prepare({ networkMode: 'named', ...dns });
    const found = async (name: string): Promise<string> =>
      stack.inside(searcher, `unshare -m sh -ec 'mount --bind ${searcher.files.resolvConf} /etc/resolv.conf; getent ahostsv4 ${name}'`);
    expect(await found('short')).toMatch(/^192\.0\.2\.\d+ .* short\.deep\.test\n/);
    expect(await found('with.two.dots')).toMatch(/ with\.two\.dots\.deep\.test\n/);
    expect(await found('three.dots.are.whole')).toMatch(/ three\.dots\.are\.whole\n/);
    // Without a way out it is not asked, but what a container names itself is, as it reaches it: on its network, in itself.
    await stack.createNetwork({ Name: 'enclosed', Internal: true });
    const [alone, server] = [await stack.prepare({ networkMode: 'enclosed' }), await stack.prepare({ networkMode: 'enclosed' })];
    expect(await stack.inside(alone, 'dig +time=2 +tries=1 @127.0.0.11 count.test A')).toContain('status: SERVFAIL');
    const near = await stack.prepare({ networkMode: 'enclosed', dns: [server.settings.Networks.enclosed?.IPAddress ?? ''] });
    const itself = await stack.prepare({ networkMode: 'named', dns: ['127.0.0.53'] });
    expect(await stack.inside(itself, 'dig +time=2 +tries=1 @127.0.0.11 count.test A')).toContain('status: SERVFAIL');
    const servers = [
      await stack.listening(upstreamIn(`--net=${server.netns}`, '0.0.0.0')),
      await stack.listening(upstreamIn(`--net=${itself.netns}`, '127.0.0.53')),
    ];
    for (const [one, options] of [near, itself].flatMap((sandbox) => [[sandbox, ''] as const, [sandbox, '+tcp'] as const])) {
      expect(await stack.inside(one, `dig ${options} +short +time=2 +tries=1 @127.0.0.11 near.test A`)).toMatch(/^192\.0\.2\.[12]\n$/);
    }
    for (const one of [upstream, ...servers]) one.kill('SIGKILL');
    await stack.host.sh('umount /etc/resolv.conf');
    await stack.release(asker, searcher, alone, server, near, itself, ...all);
    for (const network of ['named', 'enclosed']) await stack.networks.remove({ network });
  });

  it('connects and disconnects while a container runs', async () => {
    await stack.createNetwork({ Name: 'green', IPAM: { Config: [{ Subnet: '10.56.0.0/24' }] } });
    const spec = sandboxSpec({ containerName: 'wanderer' });
    const wanderer = await stack.prepare(spec as never);
    const local = await stack.prepare({ containerName: 'local', networkMode: 'green' });
    const answer = await stack.sandboxes.connect({
      network: 'green',
      spec: { ...spec, endpointsJson: json({ green: { Aliases: ['w'] } }) },
      endpointJson: json({ Aliases: ['w'] }),
      running: true,
    });
    expect(answer.networkName).toBe('green');
    const settings = JSON.parse(Buffer.from(answer.networkSettingsJson).toString());
    expect(Object.keys(settings.Networks).sort()).toEqual(['bridge', 'green']);
    expect((await stack.inside(local, 'dig +short +time=2 +tries=1 @127.0.0.11 w A')).trim()).toBe(settings.Networks.green.IPAddress);
    expect((await stack.inside(wanderer, 'dig +short +time=2 +tries=1 @127.0.0.11 local A')).trim()).toBe(
      local.settings.Networks.green?.IPAddress,
    );
    expect(readFileSync(wanderer.files.resolvConf, 'utf8')).toContain('127.0.0.11');
    await expect(stack.sandboxes.connect({ network: 'green', spec, endpointJson: json({}), running: true })).rejects.toThrow(
      'endpoint with name wanderer already exists in network green',
    );
    await stack.sandboxes.disconnect({
      network: 'green',
      containerId: wanderer.id,
      containerName: 'wanderer',
      force: false,
      running: true,
    });
    await waitFor(async () => !(await stack.inside(wanderer, 'ip -o link')).includes('eth1'), { what: 'the interface to go' });
    expect(await stack.inside(wanderer, 'ip -4 route')).toContain('default via 172.17.0.1');
    // The interface of a connection before, whose turn to be removed in the background has not come.
    await stack.host.sh(`
      ip link add ve000000000001 type veth peer name eth1 netns ${wanderer.netns}
      ip link set ve000000000001 alias flotilla:${stack.engineId}`);
    await stack.sandboxes.connect({ network: 'green', spec, endpointJson: json({}), running: true });
    expect(await stack.host.sh('ip -o link')).not.toContain('ve000000000001');
    expect(await stack.inside(wanderer, 'ip -4 -o addr show dev eth1')).toContain('10.56.0.');
    await stack.release(wanderer, local);
    await stack.networks.remove({ network: 'green' });
  });

  it('keeps internal networks and silent neighbours apart', async () => {
    await stack.createNetwork({ Name: 'inner', Internal: true });
    await stack.createNetwork({ Name: 'silent', Options: { 'com.docker.network.bridge.enable_icc': 'false' } });
    const inner = await stack.prepare({ networkMode: 'inner' });
    expect(await stack.inside(inner, 'ip -4 route')).not.toContain('default');
    await expect(stack.inside(inner, `ping -c1 -W1 ${outside.outsideAddress}`)).rejects.toThrow();
    const [one, two] = [await stack.prepare({ networkMode: 'silent' }), await stack.prepare({ networkMode: 'silent' })];
    await expect(stack.inside(one, `ping -c1 -W1 ${two.settings.Networks.silent?.IPAddress}`)).rejects.toThrow();
    expect(await stack.inside(one, `ping -c1 -W2 ${outside.outsideAddress}`)).toContain('1 received');
    await stack.release(inner, one, two);
    for (const network of ['inner', 'silent']) await stack.networks.remove({ network });
  });
});

describe('the files of a container', () => {
  const show = (path: string): string => readFileSync(path, 'utf8');

  it('follow connects, disconnects and restarts, keep what somebody wrote into them, and are the same files all the time', async () => {
    await stack.createNetwork({ Name: 'near', IPAM: { Config: [{ Subnet: '10.58.0.0/24' }] } });
    await stack.createNetwork({ Name: 'far', EnableIPv6: true, IPAM: { Config: [{ Subnet: '10.59.0.0/24' }, { Subnet: 'fd59::/64' }] } });
    const spec = sandboxSpec({ containerName: 'writer', hostname: 'writer', networkMode: 'near' });
    const { hosts, hostname, resolvConf } = (await stack.prepare(spec as never)).files;
    const inodes = [hosts, hostname, resolvConf].map((path) => statSync(path).ino);
    expect(show(hosts)).toMatch(/10\.58\.0\.2\twriter\n$/);
    appendFileSync(hosts, '192.0.2.7\tmine\n');
    await stack.stopService('SIGKILL');
    await stack.startService();
    await stack.sandboxes.connect({ network: 'far', spec, endpointJson: json({}), running: true });
    expect(show(hosts)).toMatch(/10\.58\.0\.2\twriter\n192\.0\.2\.7\tmine\n10\.59\.0\.2\twriter\nfd59::2\twriter\n$/);
    const call = { containerId: spec.containerId, containerName: 'writer', force: false, running: true };
    await stack.sandboxes.disconnect({ ...call, network: 'near' });
    expect(show(hosts)).toMatch(/ip6-allrouters\n192\.0\.2\.7\tmine\n10\.59\.0\.2\twriter\nfd59::2\twriter\n$/);
    await stack.sandboxes.rename({ containerId: spec.containerId, newName: 'author' });
    expect(show(hostname)).toBe('writer\n');
    expect(show(resolvConf)).toContain('nameserver 127.0.0.11\n');
    expect([hosts, hostname, resolvConf].map((path) => statSync(path).ino)).toEqual(inodes);
    // A new start begins anew, as dockerd's does.
    await stack.sandboxes.release({ containerId: spec.containerId, remove: false });
    await stack.prepare({ ...spec, containerName: 'author' } as never);
    expect(show(hosts)).toMatch(/ip6-allrouters\n10\.58\.0\.2\twriter\n$/);
    await stack.release({ id: spec.containerId });
    for (const network of ['near', 'far']) await stack.networks.remove({ network });
  });

  it('name the embedded server from the first user-made network on, though the host has other servers by then, but for an edited one', async () => {
    await stack.createNetwork({ Name: 'near' });
    const [plain, edited] = [sandboxSpec(), sandboxSpec()];
    const [ofPlain, ofEdited] = [await stack.prepare(plain as never), await stack.prepare(edited as never)];
    writeFileSync(ofEdited.files.resolvConf, 'nameserver 192.0.2.53\n');
    const other = `${stack.host.filesDirectory}/resolv.conf`;
    writeFileSync(other, 'nameserver 192.0.2.99\n');
    await stack.host.sh(`mount --bind ${other} /etc/resolv.conf`);
    try {
      for (const spec of [plain, edited]) {
        await stack.sandboxes.connect({ network: 'near', spec, endpointJson: json({}), running: true });
      }
      expect(show(ofPlain.files.resolvConf)).toContain('nameserver 127.0.0.11\n');
      expect(show(ofEdited.files.resolvConf)).toBe('nameserver 192.0.2.53\n');
    } finally {
      await stack.host.sh('umount /etc/resolv.conf');
    }
    await stack.release(ofPlain, ofEdited);
    await stack.networks.remove({ network: 'near' });
  });

  it('have no IPv6 where a container’s sysctls take it away', async () => {
    await stack.createNetwork({ Name: 'both', EnableIPv6: true });
    const spec = sandboxSpec({ networkMode: 'both', hostname: 'four', sysctls: { 'net.ipv6.conf.all.disable_ipv6': '1' } });
    const four = await stack.prepare(spec as never);
    expect(show(four.files.hosts)).toBe(`127.0.0.1\tlocalhost\n${four.settings.Networks.both?.IPAddress}\tfour\n`);
    expect(await stack.inside(four, 'ip -6 -o addr')).toBe('');
    await stack.release(four);
    await stack.networks.remove({ network: 'both' });
  });

  it('name a linked container by the address it has now', async () => {
    const target = sandboxSpec({ containerName: 'db', hostname: 'db' });
    const taken = await stack.prepare(target as never);
    const user = await stack.prepare({ links: [`${target.containerId}:db:store`] });
    expect(show(user.files.hosts)).toContain(`${taken.settings.IPAddress}\tstore db\n`);
    appendFileSync(user.files.hosts, '192.0.2.7\tmine\n');
    await stack.sandboxes.release({ containerId: target.containerId, remove: false });
    const heir = await stack.prepare();
    const moved = await stack.prepare(target as never);
    expect(moved.settings.IPAddress).not.toBe(taken.settings.IPAddress);
    expect(show(user.files.hosts)).toContain(`${moved.settings.IPAddress}\tstore db\n`);
    expect(show(user.files.hosts)).not.toContain(`${taken.settings.IPAddress}\tstore`);
    expect(show(user.files.hosts)).toContain('192.0.2.7\tmine\n');
    await stack.release(user, heir, moved);
  });
});
