/**
 * `flotilla up --compact`: the five services in one process, each as it is alone: with its own settings, sockets, Redis and NATS users. What they share is the
 * memory of one Node, and its end.
 */
import { createLogger, Lifecycle, type RunningService, runAsProcess } from '@flotilla/service-kit';
import { start as startContainerService } from '../../../services/container-service/src/main.ts';
import { start as startGateway } from '../../../services/gateway/src/main.ts';
import { start as startImageService } from '../../../services/image-service/src/main.ts';
import { start as startNetworkVolume } from '../../../services/network-volume/src/main.ts';
import { start as startRegistryProxy } from '../../../services/registry-proxy/src/main.ts';
import { takeEnvironments } from './environments.ts';

/** Whoever is asked starts before whoever asks; they stop the other way round. */
const starters = {
  'registry-proxy': startRegistryProxy,
  'image-service': startImageService,
  'network-volume': startNetworkVolume,
  'container-service': startContainerService,
  gateway: startGateway,
} as const;

async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  const environments = takeEnvironments(env);
  const logger = createLogger({ service: 'compact', instance: env.FLOTILLA_INSTANCE ?? '', level: env.FLOTILLA_LOG_LEVEL ?? 'info' });
  const lifecycle = new Lifecycle(logger, { deadlineMs: 5 * 10_000 });
  try {
    for (const [name, startOne] of Object.entries(starters)) {
      const service = await startOne(environments[name as keyof typeof starters]);
      lifecycle.onStop(name, () => service.lifecycle.stop());
      lifecycle.onDrain(service.lifecycle.asDrainable(name));
    }
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
  return { name: 'compact', logger, lifecycle };
}

await runAsProcess(start);
