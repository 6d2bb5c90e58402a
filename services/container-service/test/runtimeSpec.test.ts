/** What a container of ours can and cannot do, looked at from inside and in the kernel. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { cgroups, host, RuntimeBench } from './runtime.ts';

const bench = new RuntimeBench();
afterAll(() => bench.remove());

const sh = (script: string): { Cmd: string[] } => ({ Cmd: ['/bin/sh', '-c', script] });

describe('the default container', () => {
  it('has Docker’s capabilities, a seccomp filter, and no more', async () => {
    const { stdout } = await bench.run(sh('grep -E "^(Cap|Seccomp:|NoNewPrivs)" /proc/self/status'));
    expect(field(stdout, 'CapEff')).toBe('00000000a80425fb');
    expect(field(stdout, 'CapBnd')).toBe('00000000a80425fb');
    expect(field(stdout, 'CapInh')).toBe('0000000000000000');
    expect(field(stdout, 'Seccomp')).toBe('2');
    expect(field(stdout, 'NoNewPrivs')).toBe('0');
  });

  it('cannot mount, see the host or write kernel parameters', async () => {
    const { stdout } = await bench.run(
      sh(
        'mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo 1 2>/dev/null >/proc/sys/kernel/panic && echo written; ' +
          'cat /proc/kcore | dd bs=1 count=1 2>/dev/null; ls /sys/firmware; touch /sys/x 2>/dev/null && echo sys; ps | grep -c "[k]thread"; true',
      ),
    );
    expect(stdout.trim()).toBe('0');
  });

  it('has its own host name, pids, and Docker’s environment', async () => {
    const { stdout } = await bench.run({ Env: ['A=b', 'PATH=/bin'], Cmd: ['/bin/sh', '-c', 'echo $$; hostname; env'], Hostname: 'ship' });
    const [pid, name, ...env] = stdout.trim().split('\n');
    expect([pid, name]).toEqual(['1', 'ship']);
    expect(env).toEqual(expect.arrayContaining(['PATH=/bin', 'HOSTNAME=ship', 'A=b', 'HOME=/root']));
    expect((await bench.run({ Env: ['HOME='], Cmd: ['/bin/sh', '-c', 'echo $HOME'] })).stdout).toBe('/root\n');
  });

  it('has the mounts Docker gives', async () => {
    const { stdout } = await bench.run(sh('cat /proc/mounts'));
    const mounts = new Map(
      stdout
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[1], line] as const),
    );
    for (const path of ['/proc', '/dev', '/dev/pts', '/dev/mqueue', '/dev/shm', '/sys', '/proc/sys', '/sys/firmware'])
      expect(mounts.has(path), path).toBe(true);
    expect(mounts.get('/sys')).toMatch(/ ro,/);
    expect(mounts.get('/dev/shm')).toContain('size=65536k');
  });

  it('reports the exit code', async () => {
    expect((await bench.run(sh('exit 42'))).code).toBe(42);
  });
});

describe('users', () => {
  it.each([
    ['', 'uid=0(root) gid=0(root) groups=0(root)'],
    ['app', 'uid=1000(app) gid=1001(appgroup) groups=1001(appgroup),2000(extra)'],
    ['1000', 'uid=1000(app) gid=1001(appgroup) groups=1001(appgroup),2000(extra)'],
    ['app:extra', 'uid=1000(app) gid=2000(extra) groups=2000(extra)'],
    ['4242:4343', 'uid=4242 gid=4343 groups=4343'],
    ['4242', 'uid=4242 gid=0(root) groups=0(root)'],
  ])('%s', async (user, expected) => {
    expect((await bench.run({ ...sh('id'), User: user })).stdout.trim()).toBe(expected);
  });

  it('adds groups by name and number', async () => {
    const { stdout } = await bench.run({ ...sh('id -G'), User: 'app' }, { GroupAdd: ['added', '77'] });
    expect(stdout.trim().split(' ')).toEqual(expect.arrayContaining(['1001', '2000', '3000', '77']));
  });

  it('gives others than root no capabilities of their own', async () => {
    const { stdout } = await bench.run({ ...sh('grep Cap /proc/self/status'), User: 'app' });
    expect(field(stdout, 'CapEff')).toBe('0000000000000000');
    expect(field(stdout, 'CapBnd')).toBe('00000000a80425fb');
  });

  it('refuses who is not there, in Docker’s words', async () => {
    await expect(bench.run({ ...sh('id'), User: 'nobody' })).rejects.toThrow(
      'unable to find user nobody: no matching entries in passwd file',
    );
    await expect(bench.run({ ...sh('id'), User: 'app:nogroup' })).rejects.toThrow(
      'unable to find group nogroup: no matching entries in group file',
    );
  });

  it('does not follow a passwd file out of the root', async () => {
    const rootfs = bench.makeRootfs();
    const { rmSync, symlinkSync } = await import('node:fs');
    rmSync(join(rootfs, 'etc/passwd'));
    symlinkSync('/../../../../../../etc/passwd', join(rootfs, 'etc/passwd'));
    await expect(bench.run({ ...sh('id'), User: 'daemon' }, {}, { rootfs })).rejects.toThrow('no matching entries');
  });
});

describe('privileges', () => {
  it('adds and drops capabilities', async () => {
    const { stdout } = await bench.run(sh('grep CapEff /proc/self/status'), { CapDrop: ['ALL'], CapAdd: ['net_admin', 'CAP_CHOWN'] });
    expect(field(stdout, 'CapEff')).toBe('0000000000001001');
  });

  it('gives a privileged container all this machine has', async () => {
    const { stdout } = await bench.run(
      sh(
        'grep -E "^(CapEff|Seccomp:)" /proc/self/status; mount -t tmpfs x /tmp && echo mounted; touch /proc/sys/kernel/panic && echo writable; ls /dev',
      ),
      { Privileged: true },
    );
    expect(field(stdout, 'CapEff')).toBe(field(readFileSync('/proc/self/status', 'utf8'), 'CapBnd'));
    expect(field(stdout, 'Seccomp')).toBe('0');
    expect(stdout).toContain('mounted\nwritable');
    expect(stdout).toContain('kmsg');
  });

  it('obeys --security-opt', async () => {
    const { stdout } = await bench.run(sh('grep -E "^(Seccomp:|NoNewPrivs)" /proc/self/status'), {
      SecurityOpt: ['no-new-privileges', 'seccomp=unconfined'],
    });
    expect([field(stdout, 'Seccomp'), field(stdout, 'NoNewPrivs')]).toEqual(['0', '1']);
  });

  it('applies a profile given as JSON', async () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
    };
    const { stdout } = await bench.run(sh('/bin/busybox mkdir /tmp/x 2>&1; echo $?'), {
      SecurityOpt: [`seccomp=${JSON.stringify(profile)}`],
    });
    expect(stdout).toContain('Function not implemented');
  });

  it('lets the default filter refuse unshare without CAP_SYS_ADMIN, and allow it with', async () => {
    const script = sh('/bin/busybox unshare -u true 2>/dev/null && echo yes || echo no');
    expect((await bench.run(script)).stdout.trim()).toBe('no');
    expect((await bench.run(script, { CapAdd: ['SYS_ADMIN'] })).stdout.trim()).toBe('yes');
  });
});

describe('mounts', () => {
  it('binds read-only and read-write, makes a tmpfs, and keeps the root read-only', async () => {
    const source = mkdtempSync(join(bench.directory, 'source-'));
    writeFileSync(join(source, 'file'), 'of the host');
    const plan = { type: 'bind', source, mode: '', propagation: 'rprivate' } as const;
    const { stdout, stderr } = await bench.run(
      sh(
        'cat /ro/file; touch /ro/x 2>/dev/null || echo " ro"; touch /rw/made; touch /root-file 2>/dev/null || echo root-ro; touch /t/x && grep " /t " /proc/mounts',
      ),
      { ReadonlyRootfs: true, Tmpfs: { '/t': 'size=1m,exec' } },
      {
        mounts: [
          { ...plan, destination: '/ro', rw: false },
          { ...plan, destination: '/rw', rw: true },
        ],
      },
    );
    expect(stderr).toBe('');
    expect(stdout).toContain('of the host ro\nroot-ro\n');
    expect(stdout).toMatch(/tmpfs \/t tmpfs rw,nosuid,nodev,relatime,size=1024k/);
    expect(readFileSync(join(source, 'made'), 'utf8')).toBe('');
  });

  it('binds the files of the network and the init', async () => {
    const hosts = join(bench.directory, 'hosts');
    writeFileSync(hosts, '10.0.0.1 ship\n');
    const { stdout } = await bench.run(sh('cat /etc/hosts; ps -o pid,comm | grep "^ *1 "'), { Init: true }, { hostsPath: hosts });
    expect(stdout).toContain('10.0.0.1 ship');
    expect(stdout).toContain('docker-init');
  });

  it('uses a shared memory of another, and none', async () => {
    const shm = join(bench.directory, 'shm');
    mkdirSync(shm);
    writeFileSync(join(shm, 'there'), 'x');
    expect((await bench.run(sh('ls /dev/shm'), {}, { shmPath: shm })).stdout.trim()).toBe('there');
    expect((await bench.run(sh('grep -c /dev/shm /proc/mounts; true'), { IpcMode: 'none' })).stdout.trim()).toBe('0');
  });

  it('makes the working directory', async () => {
    expect((await bench.run({ ...sh('pwd'), WorkingDir: '/deep/er/still/' })).stdout.trim()).toBe('/deep/er/still');
    const rootfs = bench.makeRootfs({ 'etc/file': '' });
    await expect(bench.run({ ...sh('pwd'), WorkingDir: '/etc/file/x' }, {}, { rootfs })).rejects.toThrow(
      'Cannot mkdir: /etc/file/x is not a directory',
    );
  });
});

describe('limits', () => {
  it('are in the control group, and can be changed and frozen live', async () => {
    await bench.run(
      sh('echo ready; cat'),
      { Memory: 64 << 20, CpuShares: 512, NanoCpus: 500_000_000, PidsLimit: 50, CpusetCpus: '0' },
      {
        during: async (path) => {
          const read = (controller: 'memory' | 'cpu' | 'pids' | 'cpuset', file: string): string =>
            readFileSync(join(cgroups.hierarchy.directory(controller, path) ?? '', file), 'utf8').trim();
          const group = cgroups.group(path);
          if (cgroups.version === 1) {
            expect(read('memory', 'memory.limit_in_bytes')).toBe(`${64 << 20}`);
            expect(read('memory', 'memory.memsw.limit_in_bytes')).toBe(`${128 << 20}`);
            expect(read('cpu', 'cpu.shares')).toBe('512');
            expect(read('cpu', 'cpu.cfs_quota_us')).toBe('50000');
            expect(read('cpuset', 'cpuset.cpus')).toBe('0');
          }
          expect(read('pids', 'pids.max')).toBe('50');
          group.update({ memory: { limit: 256 << 20, swap: 512 << 20 }, pids: { limit: -1 }, cpu: { quota: 20_000, period: 50_000 } });
          const sample = group.sample();
          expect(sample.memory.limit).toBe(256 << 20);
          expect(sample.pids.limit).toBeUndefined();
          expect(sample.pids.current).toBeGreaterThan(0);
          expect(sample.cpu.cpu_usage.total_usage).toBeGreaterThan(0);
          group.update({ memory: { limit: 32 << 20, swap: 32 << 20 } });
          expect(group.sample().memory.limit).toBe(32 << 20);
          await group.freeze();
          expect(group.frozen()).toBe(true);
          await group.thaw();
          expect(group.frozen()).toBe(false);
          expect(group.processes().length).toBeGreaterThan(0);
        },
      },
    );
  });

  it('counts what the kernel killed for want of memory', async () => {
    let kills = 0;
    await bench.run(
      sh('dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo ready; cat'),
      { Memory: 8 << 20, MemorySwap: 8 << 20 },
      {
        during: (path) => {
          kills = cgroups.group(path).oomKills();
        },
      },
    );
    expect(kills).toBeGreaterThan(0);
  });

  it('sets rlimits only when asked', async () => {
    const { stdout } = await bench.run(sh('ulimit -n; ulimit -c'), {
      Ulimits: [
        { Name: 'nofile', Soft: 100, Hard: 200 },
        { Name: 'core', Soft: 0, Hard: 0 },
      ],
    });
    expect(stdout).toBe('100\n0\n');
  });

  it('sets kernel parameters of its own namespaces', async () => {
    const { stdout } = await bench.run(
      sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni /proc/sys/kernel/domainname'),
      { Sysctls: { 'kernel.shmmni': '77' } },
      {},
    );
    expect(stdout).toContain('0\n77\n');
  });

  it('raises the OOM score', async () => {
    expect((await bench.run(sh('cat /proc/self/oom_score_adj'), { OomScoreAdj: 321 })).stdout.trim()).toBe('321');
  });
});

it('asks for nothing outside the bounding set', () => {
  expect(host.boundingCapabilities).toContain('CAP_SYS_ADMIN');
});

function field(text: string, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(text)?.[1];
}
