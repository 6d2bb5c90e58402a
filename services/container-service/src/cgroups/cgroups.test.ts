/** Both kinds of control groups on recorded trees of files; the live kernel is looked at by test/runtimeSpec.test.ts. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cgroups, Hierarchy } from './index.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-cgroups-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function tree(files: Record<string, string>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
}
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

describe('v2', () => {
  const group = 'flotilla/ship';
  const open = (): Cgroups => new Cgroups(Hierarchy.parse(`30 22 0:27 / ${root} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n`));
  const recorded = {
    'cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc\n',
    'cpuset.cpus.effective': '0-7\n',
    'cpuset.mems.effective': '0\n',
    [`${group}/cgroup.procs`]: '101\n102\n',
    [`${group}/child/cgroup.procs`]: '103\n',
    [`${group}/cgroup.events`]: 'populated 1\nfrozen 0\n',
    [`${group}/cgroup.freeze`]: '0\n',
    [`${group}/cpu.stat`]:
      'usage_usec 4600000\nuser_usec 3000000\nsystem_usec 1600000\nnr_periods 20\nnr_throttled 5\nthrottled_usec 700000\n',
    [`${group}/cpu.max`]: 'max 100000\n',
    [`${group}/cpu.weight`]: '100\n',
    [`${group}/memory.current`]: '52428800\n',
    [`${group}/memory.max`]: 'max\n',
    [`${group}/memory.swap.max`]: 'max\n',
    [`${group}/memory.low`]: '0\n',
    [`${group}/memory.stat`]: 'anon 40000000\nfile 12000000\ninactive_file 2000000\n',
    [`${group}/memory.events`]: 'low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\n',
    [`${group}/io.stat`]:
      '8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=10 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n',
    [`${group}/io.weight`]: 'default 100\n',
    [`${group}/io.max`]: '\n',
    [`${group}/pids.current`]: '3\n',
    [`${group}/pids.max`]: '100\n',
    [`${group}/cpuset.cpus`]: '\n',
  };

  it('is found, with what it can do', () => {
    tree(recorded);
    const cgroups = open();
    expect(cgroups.version).toBe(2);
    expect(cgroups.support).toMatchObject({
      memoryLimit: true,
      pidsLimit: true,
      cpuCfs: true,
      oomKillDisable: false,
      memorySwappiness: false,
      cpus: '0-7',
    });
    expect(cgroups.pathFor('ship')).toBe('/flotilla/ship');
    expect(cgroups.pathFor('ship', 'a/../b/')).toBe('/a/b/ship');
  });

  it('is sampled in the units of the API', () => {
    tree(recorded);
    const sample = open().group('/flotilla/ship').sample();
    expect(sample.cpu).toEqual({
      cpu_usage: { total_usage: 4_600_000_000, usage_in_kernelmode: 1_600_000_000, usage_in_usermode: 3_000_000_000 },
      throttling_data: { periods: 20, throttled_periods: 5, throttled_time: 700_000_000 },
    });
    expect(sample.memory).toEqual({ usage: 52_428_800, stats: { anon: 40_000_000, file: 12_000_000, inactive_file: 2_000_000 } });
    expect(sample.pids).toEqual({ current: 3, limit: 100 });
    expect(sample.blkio.io_service_bytes_recursive).toEqual([
      { major: 8, minor: 0, op: 'read', value: 4096 },
      { major: 8, minor: 0, op: 'write', value: 8192 },
      { major: 253, minor: 1, op: 'read', value: 10 },
      { major: 253, minor: 1, op: 'write', value: 0 },
    ]);
  });

  it('is changed in v2’s own terms', () => {
    tree(recorded);
    const ship = open().group('/flotilla/ship');
    ship.update({
      memory: { limit: 64 << 20, swap: 96 << 20, reservation: 32 << 20 },
      cpu: { shares: 1024, quota: 50_000, period: 100_000, cpus: '0-1' },
      pids: { limit: 50 },
      blockIO: { weight: 500, throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1000 }] },
    });
    expect(read(`${group}/memory.max`)).toContain(`${64 << 20}`);
    expect(read(`${group}/memory.swap.max`)).toContain(`${32 << 20}`);
    expect(read(`${group}/memory.low`)).toContain(`${32 << 20}`);
    expect(read(`${group}/cpu.weight`)).toMatch(/^39/);
    expect(read(`${group}/cpu.max`)).toMatch(/^50000 100000/);
    expect(read(`${group}/cpuset.cpus`)).toMatch(/^0-1/);
    expect(read(`${group}/pids.max`)).toMatch(/^50/);
    expect(read(`${group}/io.weight`)).toMatch(/^4950/);
    expect(read(`${group}/io.max`)).toContain('8:0 rbps=1000');
  });

  it('lifts limits', () => {
    tree(recorded);
    const ship = open().group('/flotilla/ship');
    ship.update({ memory: { limit: -1 }, pids: { limit: -1 }, cpu: { quota: -1 } });
    expect(read(`${group}/memory.max`)).toMatch(/^max/);
    expect(read(`${group}/memory.swap.max`)).toMatch(/^max/);
    expect(read(`${group}/pids.max`)).toMatch(/^max/);
    expect(read(`${group}/cpu.max`)).toMatch(/^max 100000/);
  });

  it('counts kills and processes, those below too', () => {
    tree(recorded);
    const ship = open().group('/flotilla/ship');
    expect(ship.oomKills()).toBe(2);
    expect(ship.processes().sort()).toEqual([101, 102, 103]);
  });

  it('is frozen once the kernel says so', async () => {
    tree(recorded);
    const ship = open().group('/flotilla/ship');
    setTimeout(() => tree({ [`${group}/cgroup.events`]: 'populated 1\nfrozen 1\n' }), 10);
    await ship.freeze();
    expect(read(`${group}/cgroup.freeze`)).toMatch(/^1/);
    expect(ship.frozen()).toBe(true);
    await ship.thaw();
    expect(read(`${group}/cgroup.freeze`)).toMatch(/^0/);
  });

  it('reads as nothing when it is gone', () => {
    tree({ 'cgroup.controllers': 'memory\n' });
    const ship = open().group('/flotilla/ship');
    expect(ship.processes()).toEqual([]);
    expect(ship.oomKills()).toBe(0);
    expect(ship.sample().memory.usage).toBe(0);
    expect(ship.remove()).toBe(true);
  });
});

describe('hybrid', () => {
  const mountinfo = (): string =>
    ['cpu,cpuacct', 'memory', 'pids', 'freezer', 'blkio']
      .map((controllers, index) => `${index} 1 0:${index} / ${root}/${controllers} rw - cgroup cgroup rw,${controllers}`)
      .concat(`9 1 0:9 / ${root}/systemd rw - cgroup cgroup rw,xattr,name=systemd`, `10 1 0:10 / ${root}/unified rw - cgroup2 cgroup2 rw`)
      .join('\n');

  it('counts as v1, and is removed from every hierarchy', () => {
    tree({ 'memory/flotilla/ship/memory.usage_in_bytes': '1\n', 'unified/flotilla/ship/cgroup.procs': '' });
    const hierarchy = Hierarchy.parse(mountinfo());
    expect(hierarchy.version).toBe(1);
    expect(hierarchy.directory('cpuacct', '/x')).toBe(`${root}/cpu,cpuacct/x`);
    expect(hierarchy.directory('cpuset', '/x')).toBeUndefined();
    expect(hierarchy.directories('/x')).toEqual(expect.arrayContaining([`${root}/systemd/x`, `${root}/unified/x`]));
  });

  it('is sampled as v1', () => {
    tree({
      'cpu,cpuacct/s/cpuacct.usage': '7000000\n',
      'cpu,cpuacct/s/cpuacct.usage_percpu': '3000000 4000000 \n',
      'cpu,cpuacct/s/cpuacct.stat': 'user 3\nsystem 4\n',
      'cpu,cpuacct/s/cpu.stat': 'nr_periods 1\nnr_throttled 2\nthrottled_time 3\n',
      'memory/s/memory.usage_in_bytes': '100\n',
      'memory/s/memory.max_usage_in_bytes': '200\n',
      'memory/s/memory.limit_in_bytes': '9223372036854771712\n',
      'memory/s/memory.failcnt': '5\n',
      'memory/s/memory.stat': 'cache 1\ntotal_inactive_file 7\n',
      'memory/s/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
      'blkio/s/blkio.throttle.io_service_bytes_recursive': '8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n',
      'pids/s/pids.current': '4\n',
      'pids/s/pids.max': 'max\n',
    });
    const group = new Cgroups(Hierarchy.parse(mountinfo())).group('/s');
    const sample = group.sample();
    expect(sample.cpu.cpu_usage).toEqual({
      total_usage: 7_000_000,
      percpu_usage: [3_000_000, 4_000_000],
      usage_in_kernelmode: 40_000_000,
      usage_in_usermode: 30_000_000,
    });
    expect(sample.memory).toEqual({ usage: 100, max_usage: 200, failcnt: 5, stats: { cache: 1, total_inactive_file: 7 } });
    expect(sample.blkio.io_service_bytes_recursive).toEqual([
      { major: 8, minor: 0, op: 'Read', value: 10 },
      { major: 8, minor: 0, op: 'Write', value: 20 },
      { major: 8, minor: 0, op: 'Total', value: 30 },
    ]);
    expect(sample.pids).toEqual({ current: 4 });
    expect(group.oomKills()).toBe(1);
  });
});
