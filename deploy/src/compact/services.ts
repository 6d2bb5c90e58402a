/** The five services in one process, each as it is alone: with its own settings, sockets, Redis and NATS users. What they share is the memory of one Node, and its end. */
import { createLogger, Lifecycle, letHeapGrow, type RunningService } from '@flotilla/service-kit';
import { start as startContainerService } from '../../../services/container-service/src/main.ts';
import { start as startGateway } from '../../../services/gateway/src/main.ts';
import { start as startImageService } from '../../../services/image-service/src/main.ts';
import { start as startNetworkVolume } from '../../../services/network-volume/src/main.ts';
import { start as startRegistryProxy } from '../../../services/registry-proxy/src/main.ts';
import type { Environments } from './environments.ts';

/** Whoever is asked starts before whoever asks; they stop the other way round. */
const starters = {
  'registry-proxy': startRegistryProxy,
  'image-service': startImageService,
  'network-volume': startNetworkVolume,
  'container-service': startContainerService,
  gateway: startGateway,
} as const;

/** What runs in this process. */
export interface Services {
  readonly lifecycle: Lifecycle;
  /** Why one of them is not ready; empty when all are. */
  readonly unready: () => Promise<string>;
}

/** @throws what a service fails to start with; those that had started are stopped again. */
export async function startServices(environments: Environments): Promise<Services> {
  const { FLOTILLA_INSTANCE: instance = '', FLOTILLA_LOG_LEVEL: level = 'info' } = environments.gateway;
  const lifecycle = new Lifecycle(createLogger({ service: 'compact', instance, level }), { deadlineMs: 5 * 10_000 });
  const running: RunningService[] = [];
  try {
    for (const [name, startOne] of Object.entries(starters)) {
      const service = await startOne(environments[name as keyof typeof starters]);
      running.push(service);
      lifecycle.onStop(name, () => service.lifecycle.stop());
      lifecycle.onDrain(service.lifecycle.asDrainable(name));
    }
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
  letHeapGrow();
  const unready = async (): Promise<string> => {
    const reports = await Promise.all(running.map(async ({ name, health }) => ({ name, ...(await health.check()) })));
    return reports
      .filter(({ ready }) => !ready)
      .map(({ name, reason }) => `${name}: ${reason}`)
      .join('; ');
  };
  return { lifecycle, unready };
}
