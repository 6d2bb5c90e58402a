/** HostConfig's limits as the runtime spec's resources. */
import { statSync } from 'node:fs';
import type { HostConfig, Resources, ThrottleDevice } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { RuntimeResources, RuntimeThrottle } from '@flotilla/oci';
import { splitDevice } from '@flotilla/syscalls';
import type { CgroupVersion } from '../cgroups/index.ts';

const nanoCpusPeriodUs = 100_000;

/** Everything but the rules for devices. */
export function runtimeResources(limits: Resources): RuntimeResources {
  return { memory: memory(limits), cpu: cpu(limits), ...pids(limits), blockIO: blockIo(limits) };
}

/**
 * What a live update writes: the whole of the new limits, so that one lifted is lifted in the kernel too.
 *
 * @param hostConfig - as it is after the update.
 */
export function updatedResources(hostConfig: HostConfig): RuntimeResources {
  const { PidsLimit } = hostConfig;
  return { ...runtimeResources(hostConfig), ...(PidsLimit === undefined || PidsLimit > 0 ? {} : { pids: { limit: -1 } }) };
}

function memory(limits: Resources): NonNullable<RuntimeResources['memory']> {
  return {
    ...(limits.Memory ? { limit: limits.Memory } : {}),
    ...(limits.MemoryReservation ? { reservation: limits.MemoryReservation } : {}),
    ...(limits.MemorySwap ? { swap: limits.MemorySwap } : {}),
    ...(limits.MemorySwappiness === undefined || limits.MemorySwappiness < 0 ? {} : { swappiness: limits.MemorySwappiness }),
    ...(limits.OomKillDisable ? { disableOOMKiller: true } : {}),
  };
}

function cpu(limits: Resources): NonNullable<RuntimeResources['cpu']> {
  const fromNano = limits.NanoCpus ? { period: nanoCpusPeriodUs, quota: Math.floor((limits.NanoCpus * nanoCpusPeriodUs) / 1e9) } : {};
  return {
    ...(limits.CpuShares ? { shares: limits.CpuShares } : {}),
    ...fromNano,
    ...(limits.CpuPeriod ? { period: limits.CpuPeriod } : {}),
    ...(limits.CpuQuota ? { quota: limits.CpuQuota } : {}),
    ...(limits.CpuRealtimePeriod ? { realtimePeriod: limits.CpuRealtimePeriod } : {}),
    ...(limits.CpuRealtimeRuntime ? { realtimeRuntime: limits.CpuRealtimeRuntime } : {}),
    ...(limits.CpusetCpus ? { cpus: limits.CpusetCpus } : {}),
    ...(limits.CpusetMems ? { mems: limits.CpusetMems } : {}),
  };
}

const v1Shares = { least: 2, most: 262_144 };

/** Why runc refuses to set these CPU shares: v1 takes others than it is told. */
export function cpuSharesFault({ CpuShares: shares = 0 }: Resources, version: CgroupVersion): string | undefined {
  if (version === 2 || shares === 0) return undefined;
  if (shares > v1Shares.most) return `the maximum allowed cpu-shares is ${v1Shares.most}`;
  return shares < v1Shares.least ? `the minimum allowed cpu-shares is ${v1Shares.least}` : undefined;
}

function pids(limits: Resources): Pick<RuntimeResources, 'pids'> {
  return limits.PidsLimit && limits.PidsLimit > 0 ? { pids: { limit: limits.PidsLimit } } : {};
}

function blockIo(limits: Resources): NonNullable<RuntimeResources['blockIO']> {
  return {
    ...(limits.BlkioWeight ? { weight: limits.BlkioWeight } : {}),
    ...(limits.BlkioWeightDevice?.length
      ? { weightDevice: limits.BlkioWeightDevice.map(({ Path = '', Weight = 0 }) => ({ ...deviceNumber(Path), weight: Weight })) }
      : {}),
    ...throttle('throttleReadBpsDevice', limits.BlkioDeviceReadBps),
    ...throttle('throttleWriteBpsDevice', limits.BlkioDeviceWriteBps),
    ...throttle('throttleReadIOPSDevice', limits.BlkioDeviceReadIOps),
    ...throttle('throttleWriteIOPSDevice', limits.BlkioDeviceWriteIOps),
  };
}

function throttle<K extends string>(key: K, devices: readonly ThrottleDevice[] | undefined): { [N in K]?: RuntimeThrottle[] } {
  if (!devices?.length) return {};
  const entry: { [N in K]?: RuntimeThrottle[] } = {};
  entry[key] = devices.map(({ Path = '', Rate = 0 }) => ({ ...deviceNumber(Path), rate: Rate }));
  return entry;
}

/** @throws InvalidParameter when there is no such path. */
function deviceNumber(path: string): { major: number; minor: number } {
  try {
    return splitDevice(statSync(path, { bigint: true }).rdev);
  } catch (error) {
    throw new InvalidParameter(`stat ${path}: no such file or directory`, { cause: error });
  }
}
