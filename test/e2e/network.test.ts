import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack({ outside: true });
const must = (...args: string[]) => stack.host.mustDocker(...args);

afterEach(async () => {
  const ids = (await stack.host.mustDocker('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await stack.host.mustDocker('rm', '-f', ...ids);
});

/** Starts a web server whose only page says `text`. */
function serve(text: string, ...args: string[]): Promise<string> {
  return stack.host.mustDocker(
    'run',
    '-d',
    ...args,
    stack.busybox,
    'sh',
    '-c',
    `mkdir /www; echo ${text} > /www/index.html; exec httpd -f -p 80 -h /www`,
  );
}

/** The first page a host gets, when it gets one. */
async function fetchFrom(host: typeof stack.host, url: string): Promise<string> {
  return (await waitFor(async () => (await host.run('curl', ['-s', '-m', '2', url])).stdout.trim(), {
    what: url,
    timeoutMs: 5_000,
  })) as string;
}

async function addressOf(container: string): Promise<string> {
  return stack.host.mustDocker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container);
}

describe('published ports', () => {
  it('are reached from localhost, from the host by its address, and from another host', async () => {
    await serve('hello', '-p', '8080:80', '--name', 'web');
    expect(await fetchFrom(stack.host, 'http://127.0.0.1:8080/')).toBe('hello');
    expect(await fetchFrom(stack.host, `http://${stack.outside.hostAddress}:8080/`)).toBe('hello');
    expect(await fetchFrom(stack.outside.host, `http://${stack.outside.hostAddress}:8080/`)).toBe('hello');
    expect(await stack.host.mustDocker('port', 'web')).toBe('80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080');
    expect(await stack.host.mustDocker('ps', '--format', '{{.Ports}}')).toMatch(/^0\.0\.0\.0:8080->80\/tcp/);
  });

  it('are reached from other containers through the host', async () => {
    await serve('hairpin', '-p', '8081:80', '--name', 'web');
    await waitFor(async () => (await stack.host.docker('exec', 'web', 'wget', '-qO-', 'http://127.0.0.1/')).code === 0);
    expect(await stack.host.mustDocker('run', '--rm', stack.busybox, 'wget', '-qO-', `http://${stack.outside.hostAddress}:8081/`)).toBe(
      'hairpin',
    );
    expect(await stack.host.mustDocker('exec', 'web', 'wget', '-qO-', `http://${stack.outside.hostAddress}:8081/`)).toBe('hairpin');
  });

  it('may be bound to one address', async () => {
    await serve('local', '-p', '127.0.0.1:8082:80');
    expect(await fetchFrom(stack.host, 'http://127.0.0.1:8082/')).toBe('local');
    expect((await stack.outside.host.run('curl', ['-s', '-m', '1', `http://${stack.outside.hostAddress}:8082/`])).code).not.toBe(0);
  });

  it('are chosen by the engine when none is given', async () => {
    await serve('chosen', '-p', '80', '--name', 'web');
    const port = /0\.0\.0\.0:(\d+)/.exec(await stack.host.mustDocker('port', 'web', '80'))?.[1];
    expect(Number(port)).toBeGreaterThanOrEqual(32768);
    expect(await fetchFrom(stack.host, `http://127.0.0.1:${port}/`)).toBe('chosen');
  });

  it('carry UDP', async () => {
    // busybox has no UDP server; Python of the host runs in the container's network.
    const server =
      "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9000))\nwhile True: data, peer = s.recvfrom(100); s.sendto(b'pong ' + data, peer)";
    const client = `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.sendto(b'ping', ('${stack.outside.hostAddress}', 9000)); print(s.recv(100).decode())`;
    await must('run', '-d', '-p', '9000:9000/udp', '-v', '/:/host:ro', stack.busybox, 'chroot', '/host', '/usr/bin/python3', '-c', server);
    const ask = async (host: typeof stack.host) => (await host.run('/usr/bin/python3', ['-c', client])).stdout.trim();
    await waitFor(async () => (await ask(stack.outside.host)) === 'pong ping', { what: 'an answer by UDP' });
    await waitFor(async () => (await ask(stack.host)) === 'pong ping', { what: 'an answer by UDP on the host itself' });
  });

  it('that are taken are refused, and the container stays created', async () => {
    await serve('first', '-p', '8083:80');
    const second = await stack.host.docker('run', '-d', '--name', 'second', '-p', '8083:80', stack.busybox, 'sleep', '1000');
    expect(second.code).toBe(125);
    expect(second.stderr).toContain('Bind for 0.0.0.0:8083 failed: port is already allocated');
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Status}}', 'second')).toBe('created');
  });

  it('that a program of the host has are refused', async () => {
    const program = stack.host.spawn('busybox', ['httpd', '-f', '-p', '0.0.0.0:8084', '-h', stack.host.filesDirectory]);
    await waitFor(async () => (await stack.host.run('curl', ['-s', 'http://127.0.0.1:8084/'])).code === 0);
    const refused = await stack.host.docker('run', '--rm', '-p', '8084:80', stack.busybox, 'true');
    program.kill();
    expect(refused.code).toBe(125);
    expect(refused.stderr).toMatch(/address already in use|port is already allocated/);
  });

  it('are free again when the container is gone', async () => {
    for (let round = 0; round < 3; round += 1) {
      await serve(`round${round}`, '-p', '8085:80', '--name', 'again');
      expect(await fetchFrom(stack.host, 'http://127.0.0.1:8085/')).toBe(`round${round}`);
      await stack.host.mustDocker('rm', '-f', 'again');
    }
    expect((await stack.host.run('curl', ['-s', '-m', '1', 'http://127.0.0.1:8085/'])).code).not.toBe(0);
  });
});

describe('the default bridge', () => {
  it('lets two containers reach each other by address', async () => {
    await serve('one', '--name', 'one');
    const address = await addressOf('one');
    expect(address).toMatch(/^172\.\d+\.\d+\.\d+$|^10\.|^192\.168\./);
    await waitFor(async () => (await stack.host.docker('exec', 'one', 'wget', '-qO-', 'http://127.0.0.1/')).code === 0);
    expect(await stack.host.mustDocker('run', '--rm', stack.busybox, 'wget', '-qO-', `http://${address}/`)).toBe('one');
    expect(await stack.host.mustDocker('run', '--rm', stack.busybox, 'ping', '-c', '1', '-W', '2', address)).toContain(
      '1 packets received',
    );
  });

  it('leads outside by NAT', async () => {
    const server =
      "import socket; s = socket.create_server(('0.0.0.0', 7000)); print('ready', flush=True)\nwhile True: c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()";
    const program = stack.outside.host.spawn('/usr/bin/python3', ['-c', server]);
    await new Promise<void>((resolve) => program.stdout?.once('data', () => resolve()));
    expect(await must('run', '--rm', stack.busybox, 'nc', '-w', '2', stack.outside.address, '7000')).toBe(stack.outside.hostAddress);
    program.kill();
  });

  it('gives names, addresses and resolvers', async () => {
    const id = await stack.host.mustDocker(
      'run',
      '-d',
      '--dns',
      '198.18.0.53',
      '--add-host',
      'pier:10.1.2.3',
      stack.busybox,
      'sleep',
      '1000',
    );
    const hosts = await stack.host.mustDocker('exec', id, 'cat', '/etc/hosts');
    expect(hosts).toMatch(/^127\.0\.0\.1\tlocalhost$/m);
    expect(hosts).toMatch(/^10\.1\.2\.3\tpier$/m);
    expect(hosts).toContain(`${await addressOf(id)}\t${id.slice(0, 12)}`);
    expect(await stack.host.mustDocker('exec', id, 'hostname')).toBe(id.slice(0, 12));
    expect(await stack.host.mustDocker('exec', id, 'cat', '/etc/resolv.conf')).toMatch(/^nameserver 198\.18\.0\.53$/m);
    expect(await stack.host.mustDocker('exec', id, 'sh', '-c', 'ip -o link | grep -c eth0; ip route | head -1')).toMatch(
      /^1\ndefault via /,
    );
  });

  it('can be inspected with its containers', async () => {
    const id = await serve('listed', '--name', 'listed');
    const [bridge] = JSON.parse(await stack.host.mustDocker('network', 'inspect', 'bridge'));
    expect(bridge).toMatchObject({ Name: 'bridge', Driver: 'bridge', Scope: 'local' });
    expect(bridge.Containers[id]).toMatchObject({ Name: 'listed', IPv4Address: expect.stringContaining(`${await addressOf(id)}/`) });
  });
});

describe('other network modes', () => {
  it('network ls shows bridge, host and none', async () => {
    const lines = (await stack.host.mustDocker('network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}')).split('\n');
    expect(lines).toEqual(['bridge bridge local', 'host host local', 'none null local']);
    expect((await stack.host.mustDocker('network', 'ls')).split('\n')[0]).toMatch(/^NETWORK ID\s+NAME\s+DRIVER\s+SCOPE$/);
  });

  it('host: the network of the host', async () => {
    const links = await stack.host.sh('ls /sys/class/net');
    expect(`${await stack.host.mustDocker('run', '--rm', '--network', 'host', stack.busybox, 'ls', '/sys/class/net')}\n`).toBe(links);
  });

  it('container: the network of another container', async () => {
    await serve('shared', '--name', 'owner');
    await waitFor(async () => (await stack.host.docker('exec', 'owner', 'wget', '-qO-', 'http://127.0.0.1/')).code === 0);
    expect(
      await stack.host.mustDocker('run', '--rm', '--network', 'container:owner', stack.busybox, 'wget', '-qO-', 'http://127.0.0.1/'),
    ).toBe('shared');
    const missing = await stack.host.docker('run', '--rm', '--network', 'container:nosuch', stack.busybox, 'true');
    expect(missing.code).toBe(125);
    expect(missing.stderr).toContain('No such container: nosuch');
  });

  it('a network that does not exist is refused', async () => {
    const refused = await stack.host.docker('run', '--rm', '--network', 'nosuch', stack.busybox, 'true');
    expect(refused.code).toBe(125);
    expect(refused.stderr).toContain('network nosuch not found');
  });
});

describe('macvlan networks', () => {
  /** Throws with what ping said. */
  const ping = (container: string, address: string): Promise<string> => must('exec', container, 'ping', '-c', '1', '-W', '2', address);

  it('put containers on the wire of the parent interface, with addresses of their own', async () => {
    const subnet = ['--subnet', '198.18.0.0/24', '--ip-range', '198.18.0.64/26', '--gateway', stack.outside.address];
    await must('network', 'create', '-d', 'macvlan', '-o', 'parent=eth0', ...subnet, 'wire');
    await must('run', '-d', '--name', 'one', '--network', 'wire', '--ip', '198.18.0.80', stack.busybox, 'sleep', '1000');
    await must('run', '-d', '--name', 'two', '--network', 'wire', stack.busybox, 'sleep', '1000');
    expect(await addressOf('two')).toBe('198.18.0.64');
    await ping('one', stack.outside.address);
    await ping('two', '198.18.0.80');
    await ping('two', 'one');
    expect((await stack.outside.host.run('ping', ['-c', '1', '-W', '2', '198.18.0.80'])).code).toBe(0);
    const [inspected] = JSON.parse(await must('inspect', 'one'));
    const { MacAddress, Gateway } = inspected.NetworkSettings.Networks.wire;
    expect(Gateway).toBe(stack.outside.address);
    expect((await stack.outside.host.run('ip', ['neigh'])).stdout).toContain(`198.18.0.80 dev wire lladdr ${MacAddress}`);
    expect(await must('exec', 'one', 'ip', 'route')).toMatch(/^default via 198\.18\.0\.1 dev eth0/m);
    // Joined and left while it runs, beside another network.
    await must('network', 'disconnect', 'wire', 'two');
    expect(await must('exec', 'two', 'ls', '/sys/class/net')).toBe('lo');
    await must('network', 'connect', '--ip', '198.18.0.81', 'wire', 'two');
    await ping('two', 'one');
    await must('rm', '-f', 'one', 'two');
    await must('network', 'rm', 'wire');
    await stack.host.sh('ip link show eth0');
  });

  it('without a parent are a wire of their own, which goes with them', async () => {
    const id = await must('network', 'create', '-d', 'macvlan', 'own');
    await must('run', '-d', '--name', 'one', '--network', 'own', stack.busybox, 'sleep', '1000');
    await must('run', '-d', '--name', 'two', '--network', 'own', stack.busybox, 'sleep', '1000');
    await ping('two', 'one');
    expect(await must('exec', 'one', 'ip', 'route')).not.toContain('default');
    expect(await stack.host.sh('ls /sys/class/net')).toContain(`dm-${id.slice(0, 12)}`);
    await must('rm', '-f', 'one', 'two');
    await must('network', 'rm', 'own');
    expect(await stack.host.sh('ls /sys/class/net')).not.toContain('dm-');
  });

  it('are refused with words for what is wrong', async () => {
    const refused = async (...args: string[]) => (await stack.host.docker('network', 'create', ...args, 'bad')).stderr;
    expect(await refused('-d', 'macvlan', '-o', 'macvlan_mode=sideways')).toContain("requested macvlan mode 'sideways' is not valid");
    expect(await refused('-d', 'macvlan', '-o', 'parent=lo')).toContain('loopback interface is not a valid macvlan parent link');
    expect(await refused('-d', 'macvlan', '-o', 'parent=nosuch0')).toContain('invalid subinterface vlan name nosuch0');
    expect(await refused('-d', 'macvlan', '-o', 'parent=eth0.5000')).toContain('vlan id must be between 1-4094, received: 5000');
    expect(await must('network', 'ls', '-q', '--filter', 'type=custom')).toBe('');
  });
});

describe('configuration-only networks', () => {
  it('give others their configuration', async () => {
    await must('network', 'create', '--config-only', '--subnet', '10.77.0.0/24', '--gateway', '10.77.0.7', 'plan');
    await must('network', 'create', '--config-from', 'plan', 'built');
    expect(await must('network', 'ls', '--filter', 'type=custom', '--format', '{{.Name}} {{.Driver}}')).toBe('built bridge\nplan null');
    expect(await must('run', '--rm', '--network', 'built', stack.busybox, 'ip', 'route')).toMatch(/^default via 10\.77\.0\.7 /);
    const refused = await stack.host.docker('run', '--rm', '--network', 'plan', stack.busybox, 'true');
    expect(refused.stderr).toContain('cannot create endpoint on configuration-only network');
    expect((await stack.host.docker('network', 'rm', 'plan')).stderr).toContain('configuration network "plan" is in use');
    await must('network', 'rm', 'built');
    await must('network', 'rm', 'plan');
  });
});
