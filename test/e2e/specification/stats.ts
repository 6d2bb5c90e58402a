/** Figures of a running container, as Engine API v1.50 describes its answers, and this engine gives them: which fields are always there, and which may be null. */
import { any, fields, integer, list, map, orNull, type Shape, string, time } from './shape.ts';

export const containerPidsStats: Shape = orNull(fields({ current: orNull(integer) }, { limit: orNull(integer) }));

export const containerBlkioStatEntry: Shape = orNull(fields({ major: integer, minor: integer, op: string, value: integer }));

export const containerBlkioStats: Shape = orNull(
  fields({
    io_service_bytes_recursive: list(containerBlkioStatEntry),
    io_serviced_recursive: orNull(list(containerBlkioStatEntry)),
    io_queue_recursive: orNull(list(containerBlkioStatEntry)),
    io_service_time_recursive: orNull(list(containerBlkioStatEntry)),
    io_wait_time_recursive: orNull(list(containerBlkioStatEntry)),
    io_merged_recursive: orNull(list(containerBlkioStatEntry)),
    io_time_recursive: orNull(list(containerBlkioStatEntry)),
    sectors_recursive: orNull(list(containerBlkioStatEntry)),
  }),
);

export const containerStorageStats: Shape = orNull(
  fields(
    {},
    {
      read_count_normalized: orNull(integer),
      read_size_bytes: orNull(integer),
      write_count_normalized: orNull(integer),
      write_size_bytes: orNull(integer),
    },
  ),
);

export const containerCPUUsage: Shape = orNull(
  fields({ total_usage: integer, percpu_usage: orNull(list(integer)), usage_in_kernelmode: integer, usage_in_usermode: integer }),
);

export const containerThrottlingData: Shape = orNull(fields({ periods: integer, throttled_periods: integer, throttled_time: integer }));

export const containerCPUStats: Shape = orNull(
  fields({
    cpu_usage: containerCPUUsage,
    system_cpu_usage: orNull(integer),
    online_cpus: orNull(integer),
    throttling_data: containerThrottlingData,
  }),
);

export const containerMemoryStats: Shape = fields(
  { usage: orNull(integer), max_usage: orNull(integer), stats: map(orNull(integer)), failcnt: orNull(integer), limit: orNull(integer) },
  { commitbytes: orNull(integer), commitpeakbytes: orNull(integer), privateworkingset: orNull(integer) },
);

export const containerStatsResponse: Shape = fields({
  name: orNull(string),
  id: orNull(string),
  read: time,
  preread: time,
  pids_stats: containerPidsStats,
  blkio_stats: containerBlkioStats,
  num_procs: integer,
  storage_stats: containerStorageStats,
  cpu_stats: containerCPUStats,
  precpu_stats: containerCPUStats,
  memory_stats: containerMemoryStats,
  networks: orNull(any),
});
