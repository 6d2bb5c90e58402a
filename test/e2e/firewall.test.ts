/** Published ports and the packet filter, by real packets: from the host, from outside and from containers, beside other rules. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { isCompact, useStack } from './stack.ts';

// A dockerd keeps its empty cgroup.
const stack = useStack({ outside: true, ignoreLeaks: [/^cgroup \/docker\b/] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
type Host = typeof stack.host;

afterEach(async () => {
  const ids = (await must('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await must('rm', '-f', ...ids);
  const networks = (await must('network', 'ls', '-q', '--filter', 'type=custom')).split('\n').filter(Boolean);
  if (networks.length > 0) await must('network', 'rm', ...networks);
});

/** A server that tells each client the address it came from. */
const teller = (...args: string[]): Promise<string> =>
  must('run', '-d', ...args, '-v', '/:/host:ro', stack.busybox, 'chroot', '/host', '/usr/bin/python3', '-c', tellerProgram);
const tellerProgram = `
import socket, threading
def serve(port):
    server = socket.create_server(('', port), family=socket.AF_INET)
    while True:
        client, peer = server.accept()
        client.sendall(peer[0].encode()); client.close()
for port in (80, 81, 82): threading.Thread(target=serve, args=(port,)).start()
`;

async function tell(from: Host, address: string, port: number): Promise<string> {
  const program = `import socket; s = socket.create_connection(('${address}', ${port}), 1); print(s.recv(100).decode())`;
  return (await from.run('/usr/bin/python3', ['-c', program])).stdout.trim();
}
const told = (from: Host, address: string, port: number): Promise<unknown> =>
  waitFor(() => tell(from, address, port), { what: `${address}:${port}`, timeoutMs: 30_000 });

describe('published ports', () => {
  it('are reached by 127.0.0.1, ::1 and the host’s address; from outside with the client’s own', async () => {
    await teller('-p', '8080:80');
    const { host, outside } = { host: stack.host, outside: stack.outside };
    expect(await told(host, '127.0.0.1', 8080)).toMatch(/^1(72|92|0)\./);
    expect(await told(host, '::1', 8080)).not.toBe('');
    expect(await told(host, outside.hostAddress, 8080)).not.toBe('');
    expect(await told(outside.host, outside.hostAddress, 8080)).toBe(outside.address);
    // The host's loopback is not opened by it.
    await host.sh('ip addr add 127.0.0.77/32 dev lo');
    await outside.host.sh(
      `ip route add 127.0.0.77 via ${outside.hostAddress} 2>/dev/null || true; sysctl -qw net.ipv4.conf.all.route_localnet=1`,
    );
    expect(await tell(outside.host, '127.0.0.77', 8080)).toBe('');
  });

  it('may be ranges, on one address, and many at once without a process each', async () => {
    await teller('-p', '8080-8082:80-82', '-p', `${stack.outside.hostAddress}:9080:80`);
    for (const port of [8080, 8081, 8082]) await told(stack.outside.host, stack.outside.hostAddress, port);
    await told(stack.outside.host, stack.outside.hostAddress, 9080);
    expect(await tell(stack.host, '127.0.0.1', 9080)).toBe('');
    const processes = (): number => stack.host.cgroups.processes().length;
    await must('run', '-d', '--name', 'few', '-p', '7999:7999', stack.busybox, 'sleep', '1000');
    const before = processes();
    await must('rm', '-f', 'few');
    await must('run', '-d', '--name', 'many', '-p', '10000-10999:10000-10999', stack.busybox, 'sleep', '1000');
    expect(Math.abs(processes() - before)).toBeLessThan(20);
    // One rule looks them all up in a map.
    expect(await stack.host.sh('nft list table inet flotilla | grep -cE "dnat ip6? to"')).toBe('4\n');
    expect(await stack.host.sh('nft -j list map inet flotilla published4_any')).toContain('10999');
  });

  it('give a new container its connections at once when the port has moved', async () => {
    await teller('-p', '8080:80', '--name', 'old');
    await told(stack.outside.host, stack.outside.hostAddress, 8080);
    await must('rm', '-f', 'old');
    await teller('-p', '8080:80', '--name', 'new');
    expect(await told(stack.outside.host, stack.outside.hostAddress, 8080)).toBe(stack.outside.address);
  });
});

describe('the rules', () => {
  it('ask the operator’s own chain first', async () => {
    await teller('-p', '8080:80');
    await told(stack.outside.host, stack.outside.hostAddress, 8080);
    await stack.host.sh(`nft add rule inet flotilla user ip saddr ${stack.outside.address} drop`);
    expect(await tell(stack.outside.host, stack.outside.hostAddress, 8080)).toBe('');
    await told(stack.host, '127.0.0.1', 8080);
    await stack.host.sh('nft flush chain inet flotilla user');
    await told(stack.outside.host, stack.outside.hostAddress, 8080);
  });

  it('are put back after a flush, and never touch another’s', async () => {
    await teller('-p', '8080:80');
    await told(stack.outside.host, stack.outside.hostAddress, 8080);
    await stack.host.sh('nft flush ruleset');
    await told(stack.outside.host, stack.outside.hostAddress, 8080);
    await stack.host.sh("nft 'table ip mine { chain c { type filter hook input priority 0; tcp dport 1 drop; }; }'");
    const mine = await stack.host.sh('nft list table ip mine');
    await must('network', 'create', 'blue');
    await must('run', '--rm', '--network', 'blue', '-p', '8090:80', stack.busybox, 'true');
    await must('network', 'rm', 'blue');
    expect(await stack.host.sh('nft list table ip mine')).toBe(mine);
    await stack.host.sh('nft delete table ip mine');
  });
});

describe('beside a running dockerd', () => {
  it('containers of both are reached by their ports and get out, and its rules stay as they are', async () => {
    const { host, outside } = stack;
    // Its own /run, so that it sees nothing of ours there; the folder's docker.sock is what its client is told of.
    const folder = join(host.filesDirectory, 'dockerd');
    mkdirSync(folder);
    const socket = `unix://${join(folder, 'docker.sock')}`;
    const places = `--data-root ${folder}/data --exec-root ${folder}/exec --pidfile ${folder}/pid --bridge=none -H ${socket}`;
    // A dockerd that turns forwarding on itself lets FORWARD drop.
    await host.sh('sysctl -qw net.ipv4.ip_forward=0');
    const daemon = host.spawn('unshare', ['-m', 'sh', '-c', `mount -t tmpfs tmpfs /run && exec dockerd ${places}`]);
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    const theirs = (...args: string[]): Promise<string> => host.mustDocker('-H', socket, ...args);
    try {
      await waitFor(async () => (await host.docker('-H', socket, 'version')).code === 0, { what: 'dockerd', timeoutMs: 60_000 });
      await host.sh(`docker -H unix://${host.socketPath} save ${stack.busybox} | docker -H ${socket} load`);
      await theirs('network', 'create', '--subnet', '10.66.0.0/24', 'theirs');
      const serve = ['sh', '-c', 'mkdir /www; echo theirs > /www/index.html; exec httpd -f -h /www -p 80'];
      await theirs('run', '-d', '--name', 'web', '--network', 'theirs', '-p', '9091:80', stack.busybox, ...serve);
      const fetch = (from: Host, port: number): Promise<string> =>
        from.run('curl', ['-sfm', '2', `http://${outside.hostAddress}:${port}/`]).then(({ stdout }) => stdout.trim());
      await waitFor(async () => (await fetch(outside.host, 9091)) === 'theirs', { what: 'a port of dockerd’s', timeoutMs: 20_000 });
      const rules = async (): Promise<string> =>
        (await host.sh('iptables -S; iptables -t nat -S; ip6tables -S')).replaceAll(/^.*flotilla.*\n/gim, '');
      const before = await rules();
      expect(before).toContain('-P FORWARD DROP');

      await must('network', 'create', 'ours');
      await teller('--name', 'ours', '--network', 'ours', '-p', '8080:80');
      expect(await told(outside.host, outside.hostAddress, 8080)).toBe(outside.address);
      expect(await told(host, '127.0.0.1', 8080)).not.toBe('');
      await must('exec', 'ours', 'chroot', '/host', 'ping', '-c', '1', '-W', '2', outside.address);
      await theirs('exec', 'web', 'ping', '-c', '1', '-W', '2', outside.address);
      expect(await fetch(outside.host, 9091)).toBe('theirs');
      expect(await rules()).toBe(before);
      await must('rm', '-f', 'ours');
      await must('network', 'rm', 'ours');
      expect(await rules()).toBe(before);
      await theirs('rm', '-f', 'web');
      await theirs('network', 'rm', 'theirs');
    } finally {
      daemon.kill('SIGTERM');
      await ended;
      // What a dockerd leaves when it has ended.
      await host.sh('nft delete table ip filter; nft delete table ip nat');
    }
  });
});

describe.skipIf(isCompact)('replicas of network-volume', () => {
  it('let go of ports that another has closed, and put back what another has opened', async () => {
    await stack.host.flotilla('scale', 'network-volume=2');
    await waitFor(
      async () => (await stack.host.processes()).filter(({ service, healthy }) => service === 'network-volume' && healthy).length === 2,
      {
        what: 'two replicas',
        timeoutMs: 30_000,
      },
    );
    for (let round = 0; round < 4; round += 1) {
      await must('run', '-d', '--name', 'web', '-p', '8080:80', stack.busybox, 'sleep', '1000');
      await must('rm', '-f', 'web');
    }
    await teller('-p', '8080:80');
    await teller('-p', '8081:80');
    await stack.host.sh('nft flush ruleset');
    for (const port of [8080, 8081]) await told(stack.outside.host, stack.outside.hostAddress, port);
    await stack.host.flotilla('scale', 'network-volume=1');
  });
});
