/** Every flag of `docker update`, by what the kernel says afterwards, live and over a restart; and what a container that is there can no more become. */
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const docker = (...args: string[]) => stack.host.docker(...args);
const must = (...args: string[]) => stack.host.mustDocker(...args);
const tested = new Set<string>();

/** A control file of the container's own group, v1 or v2. */
const control = (container: string, controller: string, v1: string, v2: string): Promise<string> =>
  must('exec', container, 'sh', '-c', `cat /sys/fs/cgroup/${controller}/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`);

interface Row {
  readonly args: readonly string[];
  readonly controller: string;
  readonly v1: string;
  readonly v2: string;
  readonly before: string | RegExp;
  readonly after: string | RegExp;
}

const limits: Row[] = [
  { args: ['--cpu-shares', '512'], controller: 'cpu', v1: 'cpu.shares', v2: 'cpu.weight', before: /^(1024|100)$/, after: /^(512|20)$/ },
  {
    args: ['--cpu-period', '50000', '--cpu-quota', '20000'],
    controller: 'cpu',
    v1: 'cpu.cfs_quota_us',
    v2: 'cpu.max',
    before: /^(-1|max 100000)$/,
    after: /^20000( 50000)?$/,
  },
  { args: ['--cpuset-cpus', '0'], controller: 'cpuset', v1: 'cpuset.cpus', v2: 'cpuset.cpus', before: /^(0-\d+|0,1|)$/, after: '0' },
  { args: ['--cpuset-mems', '0'], controller: 'cpuset', v1: 'cpuset.mems', v2: 'cpuset.mems', before: /^(0|)$/, after: '0' },
  {
    args: ['--memory', '48m', '--memory-swap', '64m'],
    controller: 'memory',
    v1: 'memory.memsw.limit_in_bytes',
    v2: 'memory.swap.max',
    before: /^(\d{15,}|max)$/,
    after: /^(67108864|16777216)$/,
  },
  {
    args: ['--memory', '96m', '--memory-swap', '-1'],
    controller: 'memory',
    v1: 'memory.limit_in_bytes',
    v2: 'memory.max',
    before: '50331648',
    after: '100663296',
  },
  {
    args: ['--memory-reservation', '32m'],
    controller: 'memory',
    v1: 'memory.soft_limit_in_bytes',
    v2: 'memory.low',
    before: /^(\d{15,}|0)$/,
    after: '33554432',
  },
  { args: ['--pids-limit', '40'], controller: 'pids', v1: 'pids.max', v2: 'pids.max', before: 'max', after: '40' },
  { args: ['--pids-limit', '-1'], controller: 'pids', v1: 'pids.max', v2: 'pids.max', before: '40', after: 'max' },
];

const matches = (shown: string, wanted: string | RegExp): void => {
  if (typeof wanted === 'string') expect(shown).toBe(wanted);
  else expect(shown).toMatch(wanted);
};

describe('docker update', () => {
  it('changes the limits of a running container, and they hold over a restart', async () => {
    await must('run', '-d', '--name', 'limited', stack.busybox, 'sleep', '600');
    const pid = await must('inspect', '-f', '{{.State.Pid}}', 'limited');
    for (const { args, controller, v1, v2, before, after } of limits) {
      for (const arg of args) if (arg.startsWith('--')) tested.add(arg);
      matches(await control('limited', controller, v1, v2), before);
      expect(await must('update', ...args, 'limited')).toBe('limited');
      matches(await control('limited', controller, v1, v2), after);
    }
    expect(await must('inspect', '-f', '{{.State.Pid}}', 'limited')).toBe(pid);
    await must('restart', '-t', '0', 'limited');
    expect(await control('limited', 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe('100663296');
    expect(await control('limited', 'cpu', 'cpu.shares', 'cpu.weight')).toMatch(/^(512|20)$/);
    expect(await must('stats', '--no-stream', '--format', '{{.MemUsage}}', 'limited')).toMatch(/ \/ 96MiB$/);
    await must('rm', '-f', 'limited');
  });

  it('--cpus, several containers at once, and one that does not run', async () => {
    tested.add('--cpus');
    await must('run', '-d', '--name', 'first', '--cpus', '0.5', stack.busybox, 'sleep', '600');
    await must('create', '--name', 'second', stack.busybox, 'sleep', '600');
    expect(await must('update', '--cpus', '0.8', 'first', 'second')).toBe('first\nsecond');
    expect(await control('first', 'cpu', 'cpu.cfs_quota_us', 'cpu.max')).toMatch(/^80000/);
    await must('start', 'second');
    expect(await control('second', 'cpu', 'cpu.cfs_quota_us', 'cpu.max')).toMatch(/^80000/);
    const refused = await docker('update', '--cpu-quota', '80000', 'first');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /Cannot update container [0-9a-f]{64}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set/,
    );
    await must('rm', '-f', 'first', 'second');
  });

  it('--restart: the policy of now, for what happens later', async () => {
    tested.add('--restart');
    await must('run', '-d', '--name', 'policy', '--restart', 'always', stack.busybox, 'sh', '-c', 'sleep 1; exit 4');
    await must('update', '--restart', 'no', 'policy');
    expect(await must('wait', 'policy')).toBe('4');
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(await must('inspect', '-f', '{{.State.Status}} {{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}', 'policy')).toBe(
      'exited no 0',
    );
    await must('rm', 'policy');
    await must('run', '-d', '--rm', '--name', 'fleeting', stack.busybox, 'sleep', '600');
    expect((await docker('update', '--restart', 'always', 'fleeting')).stderr).toContain(
      'Restart policy cannot be updated because AutoRemove is enabled for the container',
    );
    await must('rm', '-f', 'fleeting');
  });

  it('refuses what cannot be, changes nothing then, and warns of what this kernel has not', async () => {
    await must('run', '-d', '--name', 'kept', '-m', '64m', '--memory-swap', '96m', stack.busybox, 'sleep', '600');
    for (const [args, says] of [
      [['--memory', '1m'], 'Minimum memory limit allowed is 6MB'],
      [['--memory', '512m'], 'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time'],
      [['--cpuset-cpus', '900'], 'Requested CPUs are not available - requested 900'],
      [['--cpu-period', '5'], 'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)'],
      [['--cpu-quota', '5'], 'CPU cfs quota can not be less than 1ms (i.e. 1000)'],
      [['--memory-swap', '32m'], ''],
      [['--restart', 'sometimes'], "invalid restart policy: unknown policy 'sometimes'; use one of"],
      [['--cpu-rt-period', '1000', '--cpu-rt-runtime', '2000'], 'real-time'],
    ] as const) {
      for (const arg of args) if (arg.startsWith('--')) tested.add(arg);
      const result = await docker('update', ...args, 'kept');
      expect(result.code, args.join(' ')).toBe(1);
      expect(result.stderr).toContain(says);
    }
    tested.add('--blkio-weight');
    const weight = await docker('update', '--blkio-weight', '300', 'kept');
    expect(weight.code).toBe(0);
    expect(await must('inspect', '-f', '{{.HostConfig.BlkioWeight}}', 'kept')).toBe(
      `${weight.stdout}${weight.stderr}`.includes('Weight discarded') ? '0' : '300',
    );
    expect(await must('inspect', '-f', '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}', 'kept')).toBe('67108864 100663296');
    expect((await docker('update', '--memory', '64m', 'ghost')).stderr).toContain('No such container: ghost');
    await must('rm', '-f', 'kept');
  });

  it('is tested here, whichever flags the CLI has', async () => {
    const help = await must('update', '--help');
    const flags = [...help.matchAll(/^ +(?:-\w, )?(--[a-z0-9-]+)/gm)].map((match) => match[1] ?? '');
    expect(flags.length).toBeGreaterThan(10);
    expect(flags.filter((flag) => !tested.has(flag))).toEqual([]);
  });
});
