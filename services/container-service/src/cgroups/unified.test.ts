/** Each limit as v2 has it, written into a recorded tree: the file, and what is in it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RuntimeResources } from '@flotilla/oci';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runtimeResources, updatedResources } from '../spec/resources.ts';
import { Cgroups, Hierarchy } from './index.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-unified-'));
  mkdirSync(join(root, 'ship'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const cgroupTwo = (): string => `30 22 0:27 / ${root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n`;

/** What is in a file of the group after an update; `before` is what the kernel shows there until then. */
function after(resources: RuntimeResources, before: Record<string, string>, file: string): string {
  for (const [name, text] of Object.entries(before)) writeFileSync(join(root, 'ship', name), text);
  new Cgroups(Hierarchy.parse(cgroupTwo())).group('/ship').update(resources);
  return readFileSync(join(root, 'ship', file), 'utf8');
}

const mib = 1024 * 1024;
const disk = { major: 8, minor: 16 };

describe('a limit of v2', () => {
  const rows: [string, RuntimeResources, Record<string, string>, string, string][] = [
    ['memory', { memory: { limit: 64 * mib } }, { 'memory.max': '' }, 'memory.max', `${64 * mib}`],
    ['no memory limit', { memory: { limit: -1 } }, { 'memory.max': '', 'memory.swap.max': '' }, 'memory.max', 'max'],
    [
      'memory and swap together',
      { memory: { limit: 64 * mib, swap: 96 * mib } },
      { 'memory.max': '', 'memory.swap.max': '' },
      'memory.swap.max',
      `${32 * mib}`,
    ],
    [
      'no swap at all',
      { memory: { limit: 64 * mib, swap: 64 * mib } },
      { 'memory.max': '', 'memory.swap.max': '' },
      'memory.swap.max',
      '0',
    ],
    [
      'swap without limit',
      { memory: { limit: 64 * mib, swap: -1 } },
      { 'memory.max': '', 'memory.swap.max': '' },
      'memory.swap.max',
      'max',
    ],
    [
      'swap over the limit there is',
      { memory: { swap: 96 * mib } },
      { 'memory.max': `${64 * mib}`, 'memory.swap.max': '' },
      'memory.swap.max',
      `${32 * mib}`,
    ],
    ['a reservation', { memory: { reservation: 32 * mib } }, { 'memory.low': '' }, 'memory.low', `${32 * mib}`],
    ['no reservation', { memory: { reservation: -1 } }, { 'memory.low': '' }, 'memory.low', 'max'],
    ['a quota, in the period there is', { cpu: { quota: 20_000 } }, { 'cpu.max': 'max 50000' }, 'cpu.max', '20000 50000'],
    ['a period alone, with the quota there is', { cpu: { period: 50_000 } }, { 'cpu.max': '20000 100000' }, 'cpu.max', '20000 50000'],
    ['a period alone, without a quota', { cpu: { period: 50_000 } }, { 'cpu.max': 'max 100000' }, 'cpu.max', 'max 50000'],
    ['no quota', { cpu: { quota: -1 } }, { 'cpu.max': '20000 100000' }, 'cpu.max', 'max 100000'],
    ['few shares', { cpu: { shares: 2 } }, { 'cpu.weight': '' }, 'cpu.weight', '1'],
    ['most shares', { cpu: { shares: 262_144 } }, { 'cpu.weight': '' }, 'cpu.weight', '10000'],
    ['cpus', { cpu: { cpus: '0,2-3' } }, { 'cpuset.cpus': '' }, 'cpuset.cpus', '0,2-3'],
    ['memory nodes', { cpu: { mems: '0-1' } }, { 'cpuset.mems': '' }, 'cpuset.mems', '0-1'],
    ['pids', { pids: { limit: 50 } }, { 'pids.max': '' }, 'pids.max', '50'],
    ['no limit of pids', { pids: { limit: -1 } }, { 'pids.max': '' }, 'pids.max', 'max'],
    ['a weight', { blockIO: { weight: 10 } }, { 'io.weight': '' }, 'io.weight', '1'],
    ['a weight for bfq', { blockIO: { weight: 300 } }, { 'io.bfq.weight': '', 'io.weight': '' }, 'io.bfq.weight', '300'],
    ['the weight of a device', { blockIO: { weightDevice: [{ ...disk, weight: 1000 }] } }, { 'io.weight': '' }, 'io.weight', '8:16 10000'],
    ['bytes read', { blockIO: { throttleReadBpsDevice: [{ ...disk, rate: 1000 }] } }, { 'io.max': '' }, 'io.max', '8:16 rbps=1000'],
    ['bytes written', { blockIO: { throttleWriteBpsDevice: [{ ...disk, rate: 1000 }] } }, { 'io.max': '' }, 'io.max', '8:16 wbps=1000'],
    ['reads', { blockIO: { throttleReadIOPSDevice: [{ ...disk, rate: 7 }] } }, { 'io.max': '' }, 'io.max', '8:16 riops=7'],
    ['writes', { blockIO: { throttleWriteIOPSDevice: [{ ...disk, rate: 7 }] } }, { 'io.max': '' }, 'io.max', '8:16 wiops=7'],
  ];
  it.each(rows)('%s', (_, resources, before, file, shows) => {
    expect(after(resources, before, file).slice(0, shows.length)).toBe(shows);
  });

  it('that the client did not name stays as it is', () => {
    const before = { 'memory.max': 'max', 'cpu.weight': '100', 'pids.max': '7' };
    after(runtimeResources({ CpuShares: 1024 }), before, 'cpu.weight');
    expect(['memory.max', 'pids.max'].map((file) => readFileSync(join(root, 'ship', file), 'utf8'))).toEqual(['max', '7']);
  });

  it('comes from HostConfig: --cpus is a quota in a tenth of a second', () => {
    expect(after(updatedResources({ NanoCpus: 1_500_000_000 }), { 'cpu.max': 'max 100000', 'pids.max': '' }, 'cpu.max')).toBe(
      '150000 100000',
    );
  });
});

describe('the hierarchy that counts', () => {
  const legacy = (controllers: string): string => `31 22 0:28 / ${root}/old rw - cgroup cgroup rw,${controllers}\n`;
  const rows: [string, () => string, 1 | 2][] = [
    ['v2 alone', cgroupTwo, 2],
    ['v2 beside a v1 hierarchy that only names groups', () => cgroupTwo() + legacy('xattr,name=systemd'), 2],
    ['hybrid: v1 has the controllers', () => cgroupTwo() + legacy('memory'), 1],
    ['v1 alone', () => legacy('cpu,cpuacct'), 1],
    ['none at all', () => '', 1],
  ];
  it.each(rows)('%s', (_, mountinfo, version) => {
    expect(Hierarchy.parse(mountinfo()).version).toBe(version);
  });
});
