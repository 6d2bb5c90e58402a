/** The event `daemon reload`: the settings that dockerd tells in it, as they are now. */
import { hostname } from 'node:os';
import type { DomainEvent } from '@flotilla/records';
import type { EngineOptions } from '@flotilla/service-kit';
import { nowNano } from './clock.ts';
import { engineDefaults } from './spec/hostDefaults.ts';

export interface ReloadFacts {
  readonly engineId: string;
  readonly options: EngineOptions;
  readonly runtimes: readonly { readonly name: string; readonly path: string }[];
  readonly defaultRuntime: string;
  readonly cgroupVersion: 1 | 2;
}

export function reloadEvent({ engineId, options, runtimes, defaultRuntime, cgroupVersion }: ReloadFacts): DomainEvent {
  return {
    type: 'daemon',
    action: 'reload',
    actorId: engineId,
    attributes: {
      debug: String(options.debug),
      'default-cgroupns-mode': options.defaultCgroupnsMode ?? engineDefaults.cgroupnsMode(cgroupVersion),
      'default-ipc-mode': options.defaultIpcMode ?? engineDefaults.ipcMode,
      'default-runtime': defaultRuntime,
      'default-shm-size': String(options.defaultShmSizeBytes ?? engineDefaults.shmBytes),
      features: options.classicBuilder ? 'map[buildkit:false]' : 'map[]',
      'insecure-registries': JSON.stringify(options.insecureRegistries),
      labels: JSON.stringify(options.labels),
      'live-restore': 'true',
      'max-concurrent-downloads': String(options.maxConcurrentDownloads),
      'max-concurrent-uploads': String(options.maxConcurrentUploads),
      name: hostname(),
      'registry-mirrors': JSON.stringify(options.registryMirrors),
      runtimes: runtimes.map(({ name, path }) => `${name}:${path}`).join(' '),
      'shutdown-timeout': String(options.shutdownTimeoutSeconds),
    },
    timeNano: nowNano(),
  };
}
