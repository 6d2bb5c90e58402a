/** Limits: what cannot be is refused, what this kernel cannot do is dropped with a warning, as dockerd does both. */
import type { Resources, Ulimit } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { HostFacts } from './spec/host.ts';

const minimumMemoryBytes = 6 * 1024 * 1024;

/**
 * Checks limits, and clears in `resources` what the kernel does not know.
 *
 * @param update - for `update`, where memory+swap may be given alone.
 * @returns warnings for the client.
 * @throws InvalidParameter in dockerd's words.
 */
export function checkResources(resources: Resources, host: HostFacts, update: boolean): string[] {
  const warnings: string[] = [];
  checkMemory(resources, host, update, warnings);
  checkProcesses(resources, host, warnings);
  checkCpu(resources, host, warnings);
  checkCpuset(resources, host, warnings);
  checkBlkio(resources, host, warnings);
  return warnings;
}

function checkMemory(resources: Resources, { cgroups }: HostFacts, update: boolean, warnings: string[]): void {
  if (resources.MemorySwappiness === -1) delete resources.MemorySwappiness;
  const memory = resources.Memory ?? 0;
  if (memory !== 0 && memory < minimumMemoryBytes) throw new InvalidParameter('Minimum memory limit allowed is 6MB');
  if (memory > 0 && !cgroups.memoryLimit) {
    warnings.push('Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.');
    resources.Memory = 0;
    resources.MemorySwap = -1;
  }
  if ((resources.Memory ?? 0) > 0 && resources.MemorySwap !== -1 && !cgroups.swapLimit) {
    warnings.push('Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.');
    resources.MemorySwap = -1;
  }
  const swap = resources.MemorySwap ?? 0;
  if (memory > 0 && swap > 0 && swap < memory) {
    throw new InvalidParameter('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (memory === 0 && swap > 0 && !update) {
    throw new InvalidParameter('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (resources.MemorySwappiness !== undefined && !cgroups.memorySwappiness) {
    warnings.push('Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.');
    delete resources.MemorySwappiness;
  }
  const swappiness = resources.MemorySwappiness;
  if (swappiness !== undefined && (swappiness < 0 || swappiness > 100)) {
    throw new InvalidParameter(`Invalid value: ${swappiness}, valid memory swappiness range is 0-100`);
  }
  if ((resources.MemoryReservation ?? 0) > 0 && !cgroups.memoryReservation) {
    warnings.push('Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.');
    resources.MemoryReservation = 0;
  }
  const reservation = resources.MemoryReservation ?? 0;
  if (reservation > 0 && reservation < minimumMemoryBytes) throw new InvalidParameter('Minimum memory reservation allowed is 6MB');
  if (memory > 0 && reservation > 0 && memory < reservation) {
    throw new InvalidParameter('Minimum memory limit can not be less than memory reservation limit, see usage');
  }
  if (resources.KernelMemory || resources.KernelMemoryTCP) {
    warnings.push('Kernel memory limits are not supported by current kernels. Limitation discarded.');
    delete resources.KernelMemory;
    delete resources.KernelMemoryTCP;
  }
}

function checkProcesses(resources: Resources, { cgroups }: HostFacts, warnings: string[]): void {
  if (resources.OomKillDisable !== undefined && !cgroups.oomKillDisable) {
    if (resources.OomKillDisable) warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.');
    delete resources.OomKillDisable;
  }
  if (resources.OomKillDisable && !resources.Memory) {
    warnings.push(
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
    );
  }
  if (resources.PidsLimit !== undefined && !cgroups.pidsLimit) {
    if (resources.PidsLimit > 0) {
      warnings.push('Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.');
    }
    delete resources.PidsLimit;
  }
}

function checkCpu(resources: Resources, { cgroups, cpus }: HostFacts, warnings: string[]): void {
  const { NanoCpus: nano = 0, CpuRealtimePeriod: realtimePeriod = 0, CpuRealtimeRuntime: realtimeRuntime = 0 } = resources;
  if ((realtimePeriod !== 0 || realtimeRuntime !== 0) && !cgroups.cpuRealtime) {
    throw new InvalidParameter('Your kernel does not support CPU real-time scheduler');
  }
  if (realtimePeriod !== 0 && realtimeRuntime !== 0 && realtimeRuntime > realtimePeriod) {
    throw new InvalidParameter('cpu real-time runtime cannot be higher than cpu real-time period');
  }
  if (nano > 0 && (resources.CpuPeriod ?? 0) > 0) {
    throw new InvalidParameter('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  }
  if (nano > 0 && (resources.CpuQuota ?? 0) > 0) {
    throw new InvalidParameter('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  }
  if (nano > 0 && !cgroups.cpuCfs) {
    throw new InvalidParameter('NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted');
  }
  if (nano < 0 || nano > cpus * 1e9) {
    throw new InvalidParameter(`range of CPUs is from 0.01 to ${cpus}.00, as there are only ${cpus} CPUs available`);
  }
  if ((resources.CpuShares ?? 0) < 0) {
    throw new InvalidParameter(`invalid CPU shares (${resources.CpuShares}): value must be a positive integer`);
  }
  if (resources.CpuShares && !cgroups.cpuShares) {
    warnings.push('Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.');
    resources.CpuShares = 0;
  }
  if ((resources.CpuPeriod || resources.CpuQuota) && !cgroups.cpuCfs) {
    warnings.push('Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.');
    resources.CpuPeriod = 0;
    resources.CpuQuota = 0;
  }
  const { CpuPeriod: period = 0, CpuQuota: quota = 0 } = resources;
  if (period !== 0 && (period < 1000 || period > 1_000_000)) {
    throw new InvalidParameter('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)');
  }
  if (quota > 0 && quota < 1000) throw new InvalidParameter('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  if ((resources.CpuPercent ?? 0) > 0) {
    warnings.push('linux does not support CPU percent. Percent discarded.');
    resources.CpuPercent = 0;
  }
}

function checkCpuset(resources: Resources, { cgroups }: HostFacts, warnings: string[]): void {
  if ((resources.CpusetCpus || resources.CpusetMems) && !cgroups.cpuset) {
    warnings.push('Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.');
    resources.CpusetCpus = '';
    resources.CpusetMems = '';
  }
  const within = (value: string, available: string, kind: string, what: string): void => {
    if (value === '') return;
    const wanted = parseList(value);
    if (wanted === undefined) {
      throw new InvalidParameter(`Invalid value ${value} for cpuset ${kind}: failed to parse cpuset: ${JSON.stringify(value)}`);
    }
    const there = parseList(available) ?? new Set();
    if (![...wanted].every((each) => there.has(each))) {
      throw new InvalidParameter(`Requested ${what} are not available - requested ${value}, available: ${available}`);
    }
  };
  within(resources.CpusetCpus ?? '', cgroups.cpus, 'cpus', 'CPUs');
  within(resources.CpusetMems ?? '', cgroups.mems, 'mems', 'memory nodes');
}

const mostListed = 8192;

/** `0-3,5`. */
function parseList(text: string): Set<number> | undefined {
  const numbers = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim());
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (match === null || last < first || last > mostListed) return undefined;
    for (let number = first; number <= last; number += 1) numbers.add(number);
  }
  return numbers;
}

function checkBlkio(resources: Resources, { cgroups }: HostFacts, warnings: string[]): void {
  if ((resources.BlkioWeight ?? 0) > 0 && !cgroups.blkioWeight) {
    warnings.push('Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.');
    resources.BlkioWeight = 0;
  }
  const weight = resources.BlkioWeight ?? 0;
  if (weight > 0 && (weight < 10 || weight > 1000)) throw new InvalidParameter('Range of blkio weight is from 10 to 1000');
  if (resources.IOMaximumBandwidth || resources.IOMaximumIOps) {
    throw new InvalidParameter('Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps');
  }
  const kinds = [
    ['BlkioWeightDevice', cgroups.blkioWeightDevice, 'Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.'],
    [
      'BlkioDeviceReadBps',
      cgroups.blkioReadBps,
      'BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.',
    ],
    [
      'BlkioDeviceWriteBps',
      cgroups.blkioWriteBps,
      'BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.',
    ],
    [
      'BlkioDeviceReadIOps',
      cgroups.blkioReadIops,
      'IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.',
    ],
    [
      'BlkioDeviceWriteIOps',
      cgroups.blkioWriteIops,
      'IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.',
    ],
  ] as const;
  for (const [name, supported, what] of kinds) {
    if ((resources[name]?.length ?? 0) === 0 || supported) continue;
    warnings.push(`Your kernel does not support ${what}`);
    resources[name] = [];
  }
}

const ulimitNames = 'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' ');

/** @throws InvalidParameter */
export function checkUlimits(ulimits: readonly Ulimit[]): void {
  for (const { Name: name = '', Soft: soft = 0, Hard: hard = 0 } of ulimits) {
    if (!ulimitNames.includes(name)) throw new InvalidParameter(`invalid ulimit type: ${name}`);
    if (hard !== -1 && (soft > hard || soft === -1)) {
      throw new InvalidParameter(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`);
    }
  }
}
