import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  assertNoLeaks,
  connectOutside,
  createLab,
  createTestHost,
  snapshotSystem,
  Terminal,
  type TestHost,
  waitFor,
} from '../src/index.ts';

const hosts: TestHost[] = [];

async function newHost(): Promise<TestHost> {
  const host = await createTestHost();
  hosts.push(host);
  return host;
}

afterEach(async () => {
  for (const host of hosts.splice(0)) await host.dispose();
});

describe('a test host', () => {
  it('has a network, mounts and cgroups of its own', async () => {
    const host = await newHost();
    expect(JSON.parse(await host.sh('ip -j link')).map((link: { ifname: string }) => link.ifname)).toEqual(['lo']);
    expect((await host.sh('ls /sys/class/net')).trim()).toBe('lo');
    expect(await host.sh('cat /proc/self/cgroup')).toMatch(/:\/machine$/m);
    await host.sh(`mkdir ${host.filesDirectory}/m; mount -t tmpfs none ${host.filesDirectory}/m; touch ${host.filesDirectory}/m/inside`);
    expect(existsSync(join(host.filesDirectory, 'm/inside'))).toBe(false);
    expect((await host.sh('findmnt -no PROPAGATION /')).trim()).toBe('shared');
  });

  it('runs programs with input, output and exit code', async () => {
    const host = await newHost();
    const result = await host.run('sh', ['-c', 'cat; echo err >&2; exit 7'], { input: 'hi' });
    expect(result).toMatchObject({ code: 7, stdout: 'hi', stderr: 'err\n' });
    const child = host.spawn('sleep', ['1000']);
    await waitFor(() => readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim() === 'sleep');
    child.kill();
  });

  it('takes everything with it when disposed, whatever it was', async () => {
    const host = await newHost();
    const child = host.spawn('sh', ['-c', 'setsid sleep 1000 & exec unshare --net --mount sleep 1000']);
    await waitFor(() => host.cgroups.processes().length >= 4);
    for (const directory of host.cgroups.directories) mkdirSync(join(directory, 'one'));
    await host.sh('ip link add b0 type bridge; mount -t tmpfs none /mnt');
    await host.dispose();
    expect(existsSync(host.directory)).toBe(false);
    expect(host.cgroups.processes()).toEqual([]);
    expect(existsSync(`/proc/${child.pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${child.pid}/status`, 'utf8'))).toBe(false);
    for (const directory of host.cgroups.directories) expect(existsSync(directory)).toBe(false);
  });

  it('leaves nothing when the test run itself is killed', async () => {
    const script = `import { createTestHost } from ${JSON.stringify(join(import.meta.dirname, '../src/index.ts'))};
      const host = await createTestHost();
      host.spawn('sleep', ['1000']);
      process.stdout.write(host.cgroups.name + ' ' + host.directory + '\\n');
      await new Promise(() => setInterval(() => {}, 1000));`;
    const { spawn } = await import('node:child_process');
    const run = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' });
    const [name, directory] = await new Promise<string[]>((resolve) =>
      run.stdout.once('data', (line: Buffer) => resolve(line.toString().trim().split(' '))),
    );
    run.kill('SIGKILL');
    const stillThere = (): boolean => readdirSync('/proc').some((pid) => isBelow(pid, `/${name}`));
    await waitFor(() => !stillThere(), { what: 'the processes of a killed run to be gone' });
    // The next run sweeps the rest.
    expect(existsSync(directory ?? '')).toBe(true);
    const sweeper = spawn(
      process.execPath,
      ['--input-type=module', '-e', `${script.split('\n')[0]} const host = await createTestHost(); await host.dispose();`],
      {
        stdio: 'inherit',
      },
    );
    expect(await new Promise((resolve) => sweeper.once('exit', resolve))).toBe(0);
    expect(existsSync(directory ?? '')).toBe(false);
  });
});

function isBelow(pid: string, path: string): boolean {
  if (!/^\d+$/.test(pid)) return false;
  try {
    readlinkSync(`/proc/${pid}/ns/net`);
    return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(path);
  } catch {
    return false;
  }
}

describe('a lab', () => {
  it('joins hosts and an outside by one wire', async () => {
    const lab = await createLab({ hosts: 2 });
    try {
      const [first, second] = lab.hosts;
      expect((await first?.host.run('busybox', ['ping', '-c1', '-W2', second?.address ?? '']))?.code).toBe(0);
      expect((await lab.outside.run('busybox', ['ping', '-c1', '-W2', first?.address ?? ''])).code).toBe(0);
    } finally {
      await lab.dispose();
    }
  });

  it('gives one host an outside', async () => {
    const host = await newHost();
    const { outside, address } = await connectOutside(host);
    expect((await outside.run('busybox', ['ping', '-c1', '-W2', address])).code).toBe(0);
  });
});

describe('the leak check', () => {
  it('names each kind of thing that was left', async () => {
    const host = await newHost();
    const before = await snapshotSystem(host);
    await assertNoLeaks(host, before);
    const child = host.spawn('sleep', ['1234']);
    await host.sh(`ip link add left0 type bridge; nft add table ip left; mkdir ${host.execRoot}/m; mount -t tmpfs none ${host.execRoot}/m`);
    for (const directory of host.cgroups.directories) mkdirSync(join(directory, 'left'));
    writeFileSync(join(host.dataRoot, 'left.tmp'), '');
    const error: Error = await assertNoLeaks(host, before, { timeoutMs: 10 }).then(
      () => new Error('nothing found'),
      (reason: Error) => reason,
    );
    for (const thing of ['process sleep', 'link left0', 'nft table ip left', 'cgroup /left', 'file data/left.tmp', 'mount '])
      expect(error.message).toContain(thing);
    child.kill();
  });
});

describe('a terminal', () => {
  it('shows output, takes typing, and resizes', async () => {
    const terminal = Terminal.open('sh', [], { rows: 30, columns: 90 });
    terminal.type('stty size\n');
    await terminal.expect(/30 90/);
    terminal.resize(40, 120);
    terminal.type('stty size\n');
    await terminal.expect(/40 120/);
    terminal.type('exit 7\n');
    expect(await terminal.exit()).toBe(7);
    terminal.close();
  });
});
