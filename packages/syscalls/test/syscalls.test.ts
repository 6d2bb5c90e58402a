/** The real kernel, in a mount and network namespace of the test's own, so that nothing of the machine is touched. */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addAddress,
  addRoute,
  bindSocket,
  changeLink,
  closeDescriptor,
  createBridge,
  createNetns,
  createVeth,
  deleteFlow,
  deleteLink,
  findLink,
  hasCode,
  inNetns,
  isNetns,
  kill,
  lgetxattr,
  listAddresses,
  listFlows,
  listLinks,
  listRoutes,
  llistxattr,
  lremovexattr,
  lsetxattr,
  lutimesNs,
  makeDevice,
  mkfifo,
  mknod,
  mount,
  mountFlags,
  mountPointsBelow,
  NetlinkSocket,
  namespaceKinds,
  netlinkProtocols,
  netnsInode,
  openat2,
  peerCredentials,
  posixSpawn,
  readSysctl,
  removeNetns,
  requireLink,
  resolveFlags,
  setBridgePort,
  splitDevice,
  tryLockFile,
  umount,
  unshare,
  waitpid,
  withNamespaceFile,
  writeSysctl,
} from '../src/index.ts';

let folder: string;

beforeAll(() => {
  unshare(namespaceKinds.mount | namespaceKinds.network);
  mount('none', '/', '', mountFlags.private | mountFlags.recursive);
  folder = mkdtempSync('/tmp/flotilla-syscalls-');
  mount('tmpfs', folder, 'tmpfs', mountFlags.noSuid, 'size=4m,mode=0755');
});

afterAll(() => {
  umount(folder, 2);
  rmSync(folder, { recursive: true, force: true });
});

async function exited(pid: number): Promise<{ code?: number; signal?: number }> {
  for (let tries = 0; tries < 500; tries += 1) {
    const found = waitpid(pid);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`process ${pid} did not end`);
}

describe('files', () => {
  it('says what failed, in Node’s own words', () => {
    let failure: unknown;
    try {
      mount('none', join(folder, 'nowhere'), 'tmpfs');
    } catch (error) {
      failure = error;
    }
    expect(failure).toMatchObject({ code: 'ENOENT', errno: 2, syscall: 'mount' });
    expect(() => mount('none\0x', folder)).toThrow('EINVAL');
  });

  it('makes special files', () => {
    mknod(join(folder, 'null'), constants.S_IFCHR | 0o600, makeDevice(1, 3));
    expect(splitDevice(lstatSync(join(folder, 'null'), { bigint: true }).rdev)).toEqual({ major: 1, minor: 3 });
    mkfifo(join(folder, 'fifo'));
    expect(lstatSync(join(folder, 'fifo')).isFIFO()).toBe(true);
    expect(splitDevice(makeDevice(0x12345, 0x67890))).toEqual({ major: 0x12345, minor: 0x67890 });
  });

  it('reads and writes attributes and times of a link itself', () => {
    const [file, link] = [join(folder, 'file'), join(folder, 'link')];
    writeFileSync(file, '');
    symlinkSync('file', link);
    lsetxattr(file, 'trusted.colour', 'red');
    expect(lgetxattr(file, 'trusted.colour')?.toString()).toBe('red');
    expect(lgetxattr(link, 'trusted.colour')).toBeUndefined();
    expect(llistxattr(file)).toContain('trusted.colour');
    lremovexattr(file, 'trusted.colour');
    lremovexattr(file, 'trusted.colour');
    expect(llistxattr(file)).toEqual([]);
    lutimesNs(link, undefined, -1_500_000_001n);
    expect(lstatSync(link, { bigint: true }).mtimeNs).toBe(-1_500_000_001n);
    expect(lstatSync(file, { bigint: true }).mtimeNs).toBeGreaterThan(0n);
  });

  it('opens below a root that links cannot leave', () => {
    const root = join(folder, 'root');
    mkdirSync(root);
    writeFileSync(join(root, 'inside'), 'inside');
    symlinkSync('/inside', join(root, 'absolute'));
    symlinkSync('../../../../etc/passwd', join(root, 'climbing'));
    const fd = openSync(root, constants.O_DIRECTORY);
    const inside = openat2(fd, 'absolute', { flags: constants.O_RDONLY, resolve: resolveFlags.inRoot });
    expect(readFileSync(inside, 'utf8')).toBe('inside');
    closeSync(inside);
    expect(() => openat2(fd, 'climbing', { flags: constants.O_RDONLY, resolve: resolveFlags.inRoot })).toThrow('ENOENT');
    expect(() => openat2(fd, 'climbing', { flags: constants.O_RDONLY, resolve: resolveFlags.beneath })).toThrow('EXDEV');
    closeSync(fd);
  });

  it('locks once', () => {
    const path = join(folder, 'lock');
    const [one, two] = [openSync(path, 'w'), openSync(path, 'r+')];
    expect(tryLockFile(one)).toBe(true);
    expect(tryLockFile(two)).toBe(false);
    closeSync(one);
    expect(tryLockFile(two)).toBe(true);
    closeSync(two);
  });
});

describe('processes', () => {
  it('gives a child exactly the descriptors, environment and folder asked for', async () => {
    const [first, second] = [openSync(join(folder, 'first'), 'w+'), openSync(join(folder, 'second'), 'w+')];
    const script = `echo "$GREETING $(pwd)" >&${second}; echo other >&${first}; exit 7`;
    const pid = posixSpawn('/bin/bash', ['bash', '-c', script], {
      env: { GREETING: 'hello' },
      cwd: '/usr',
      fds: { [second]: first, [first]: second },
      setsid: true,
    });
    expect(await exited(pid)).toMatchObject({ pid, code: 7 });
    expect(readFileSync(join(folder, 'first'), 'utf8')).toBe('hello /usr\n');
    expect(readFileSync(join(folder, 'second'), 'utf8')).toBe('other\n');
    closeSync(first);
    closeSync(second);
  });

  it('reports the signal that ended one, and what is not there', async () => {
    const pid = posixSpawn('/bin/sleep', ['sleep', '60']);
    expect(waitpid(pid)).toBeUndefined();
    expect(kill(pid, 15)).toBe(true);
    expect(await exited(pid)).toEqual({ pid, signal: 15 });
    expect(kill(pid, 0)).toBe(false);
    expect(() => waitpid(pid)).toThrow('ECHILD');
    expect(() => posixSpawn('/nowhere', ['nowhere'])).toThrow('ENOENT');
  });
});

it('knows who connected a unix socket', async () => {
  const path = join('/tmp', `flotilla-peer-${process.pid}.sock`);
  const server = createServer();
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const pid = posixSpawn(process.execPath, [
    'node',
    '-e',
    `require('net').connect(${JSON.stringify(path)}).on('close', () => process.exit())`,
  ]);
  const socket = await accepted;
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  expect(peerCredentials(fd)).toEqual({ pid, uid: 0, gid: 0 });
  socket.destroy();
  server.close();
  await exited(pid);
});

describe('networks', () => {
  it('joins two namespaces by a bridge', () => {
    const [one, two] = [join(folder, 'ns', 'one'), join(folder, 'ns', 'two')];
    createNetns(one);
    createNetns(two);
    expect(() => createNetns(one)).toThrow('EEXIST');
    expect(isNetns(one)).toBe(true);
    expect(mountPointsBelow(join(folder, 'ns')).sort()).toEqual([one, two]);
    const home = netnsInode();
    using socket = NetlinkSocket.open();
    createBridge(socket, 'lab0', { mac: '02:42:00:00:00:01', mtu: 1400 });
    expect(() => createBridge(socket, 'lab0')).toThrow('create bridge lab0: File exists (EEXIST)');
    expect(() => createBridge(socket, 'a name far too long')).toThrow('not an interface name');
    const bridge = requireLink(socket, 'lab0');
    expect(bridge).toMatchObject({ kind: 'bridge', mac: '02:42:00:00:00:01', mtu: 1400, up: false });
    changeLink(socket, bridge.index, { up: true, alias: 'flotilla test' });
    addAddress(socket, { link: bridge.index, address: '10.9.0.1', prefixLength: 24 });
    addAddress(socket, { link: bridge.index, address: 'fd09::1', prefixLength: 64 });

    withNamespaceFile(one, (netnsFd) =>
      createVeth(socket, { name: 'port1' }, { name: 'eth0', netnsFd, mac: '02:42:0a:09:00:02' }, { master: bridge.index }),
    );
    const port = requireLink(socket, 'port1');
    changeLink(socket, port.index, { up: true });
    setBridgePort(socket, port.index, { hairpin: true });
    expect(execFileSync('ip', ['-d', 'link', 'show', 'port1']).toString()).toContain('hairpin on');
    expect(requireLink(socket, 'port1')).toMatchObject({ kind: 'veth', master: bridge.index, up: true });
    inNetns(one, () => {
      using inside = NetlinkSocket.open();
      const eth = requireLink(inside, 'eth0');
      expect(eth.mac).toBe('02:42:0a:09:00:02');
      changeLink(inside, eth.index, { up: true });
      addAddress(inside, { link: eth.index, address: '10.9.0.2', prefixLength: 24 });
      addRoute(inside, { destination: '0.0.0.0', prefixLength: 0, gateway: '10.9.0.1' });
      expect(listRoutes(inside)).toContainEqual(expect.objectContaining({ destination: '0.0.0.0', gateway: '10.9.0.1' }));
      expect(listAddresses(inside)).toContainEqual({ link: eth.index, address: '10.9.0.2', prefixLength: 24 });
      expect(netnsInode()).not.toBe(home);
      writeSysctl('net/ipv4/conf/eth0/forwarding', '1');
      expect(readSysctl('net.ipv4.conf.eth0.forwarding')).toBe('1');
      expect(() => writeSysctl('net/../../../etc/passwd', 'x')).toThrow('not a sysctl');
    });
    expect(netnsInode()).toBe(home);
    expect(() => inNetns(one, () => Promise.resolve())).toThrow('synchronous');
    expect(netnsInode()).toBe(home);
    expect(execFileSync('busybox', ['ping', '-c1', '-W2', '10.9.0.2']).toString()).toContain('1 packets received');

    expect(() => addRoute(socket, { destination: '10.77.0.0', prefixLength: 16, gateway: '203.0.113.1' })).toThrow(
      /add route 10.77.0.0\/16 via 203.0.113.1: .*ENETUNREACH/,
    );
    deleteLink(socket, 'port1');
    deleteLink(socket, 'port1');
    expect(findLink(socket, 'port1')).toBeUndefined();
    deleteLink(socket, 'lab0');
    expect(listLinks(socket).map(({ name }) => name)).not.toContain('lab0');
    for (const path of [one, two]) removeNetns(path);
    removeNetns(one);
    expect(existsSync(one)).toBe(false);
  });

  it('lists flows and forgets one', async () => {
    using links = NetlinkSocket.open();
    changeLink(links, requireLink(links, 'lo').index, { up: true });
    // Flows are tracked where a rule asks for their state.
    execFileSync('nft', ['-f', '-'], { input: 'table ip t { chain c { type filter hook output priority 0; ct state new counter; }; }\n' });
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => socket.send('one', 9001, '127.0.0.1', () => resolve()));
    await new Promise<void>((resolve) => socket.send('two', 9002, '127.0.0.1', () => resolve()));
    socket.close();
    using netfilter = NetlinkSocket.open(netlinkProtocols.netfilter);
    const found = await listFlows(netfilter, { family: 4, protocol: 17 });
    expect(found.map(({ destinationPort }) => destinationPort).sort()).toEqual([9001, 9002]);
    expect(found[0]).toMatchObject({ family: 4, protocol: 17, answeredBy: '127.0.0.1' });
    expect(await listFlows(netfilter, { family: 4, protocol: 6 })).toEqual([]);
    expect(await listFlows(netfilter, { family: 4, answeredBy: '127.0.0.2' })).toEqual([]);
    const first = found.find(({ destinationPort }) => destinationPort === 9001);
    if (first !== undefined) for (const flow of [first, first]) deleteFlow(netfilter, flow);
    const left = await listFlows(netfilter, { family: 4, answeredBy: '127.0.0.1' });
    expect(left.map(({ destinationPort }) => destinationPort)).toEqual([9002]);
  });

  it('holds a port so that nobody else can bind it', () => {
    using socket = NetlinkSocket.open();
    changeLink(socket, 1, { up: true });
    const { fd, port } = bindSocket({ transport: 'tcp', address: '127.0.0.1', port: 0 });
    let failure: unknown;
    try {
      bindSocket({ transport: 'tcp', address: '0.0.0.0', port, reuseAddress: true, backlog: 1 });
    } catch (error) {
      failure = error;
    }
    expect(hasCode(failure, 'EADDRINUSE')).toBe(true);
    closeDescriptor(fd);
    closeDescriptor(bindSocket({ transport: 'tcp', address: '0.0.0.0', port }).fd);
    closeDescriptor(bindSocket({ transport: 'udp', address: '::1', port }).fd);
  });
});
