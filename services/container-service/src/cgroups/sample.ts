/** What a control group's counters say at one moment, in the units of the Engine API. */
import type { BlkioStats, CpuStats, MemoryStats } from '@flotilla/engine-api';

export interface CgroupSample {
  /** without the host's part (system_cpu_usage, online_cpus) */
  readonly cpu: CpuStats;
  /** `limit` is absent when there is none */
  readonly memory: MemoryStats;
  readonly blkio: BlkioStats;
  readonly pids: { current?: number; limit?: number };
}

export const noBlkio: BlkioStats = {
  io_service_bytes_recursive: null,
  io_serviced_recursive: null,
  io_queue_recursive: null,
  io_service_time_recursive: null,
  io_wait_time_recursive: null,
  io_merged_recursive: null,
  io_time_recursive: null,
  sectors_recursive: null,
};
