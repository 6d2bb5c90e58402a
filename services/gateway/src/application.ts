/** The Express application: every operation of the Engine API, group by group. Pure wiring, so that tests can build it with fakes. */
import type { SystemInfo, SystemVersion } from '@flotilla/engine-api';
import type { Logger } from '@flotilla/service-kit';
import express, { type Express, Router } from 'express';
import type { Backends } from './backends.ts';
import type { BuildKitDoor } from './buildkitDoor.ts';
import type { Copies } from './copies.ts';
import type { Events } from './events/follow.ts';
import type { HostRelay } from './hosts/relay.ts';
import type { Metrics } from './metrics.ts';
import { errorHandler, pageNotFound, refuseHeadOfStreams } from './middleware/errors.ts';
import { buildRoutes } from './routes/build.ts';
import { buildkitRoutes } from './routes/buildkit.ts';
import { containerArchiveRoutes } from './routes/containerArchive.ts';
import { containerStreamRoutes } from './routes/containerStreams.ts';
import { containerRoutes } from './routes/containers.ts';
import { type DistributionOptions, distributionRoutes } from './routes/distribution.ts';
import { eventRoutes } from './routes/events.ts';
import { execRoutes } from './routes/execs.ts';
import { hostRoutes } from './routes/hosts.ts';
import { imageRoutes } from './routes/images.ts';
import { networkRoutes } from './routes/networks.ts';
import { pluginRoutes } from './routes/plugins.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { systemRoutes } from './routes/system.ts';
import { volumeRoutes } from './routes/volumes.ts';

export interface ApplicationOptions {
  readonly backends: Backends;
  readonly buildkitDoor: BuildKitDoor;
  readonly copies: Copies;
  readonly events: Events;
  readonly info: () => Promise<SystemInfo>;
  readonly version: () => Promise<SystemVersion>;
  readonly distribution: DistributionOptions;
  readonly cgroupV2: boolean;
  readonly metrics: Metrics;
  /** Absent when no other hosts are reached through this one. */
  readonly hosts?: HostRelay;
  readonly logger: Logger;
}

export function createApplication(options: ApplicationOptions): Express {
  const { backends, metrics } = options;
  const application = express();
  application.disable('x-powered-by');
  application.disable('etag');
  application.set('query parser', false);
  application.set('env', 'production');
  application.use(metrics.observe);
  const router = Router({ caseSensitive: true, strict: true });
  containerRoutes(router, { backends, copies: options.copies, events: options.events, cgroupV2: options.cgroupV2 });
  containerStreamRoutes(router, backends);
  containerArchiveRoutes(router, backends);
  execRoutes(router, backends);
  imageRoutes(router, backends, options.copies);
  networkRoutes(router, backends);
  volumeRoutes(router, backends);
  systemRoutes(router, { backends, info: options.info, version: options.version });
  eventRoutes(router, options.events);
  distributionRoutes(router, options.distribution);
  buildRoutes(router, backends);
  buildkitRoutes(router, options.buildkitDoor, options.logger);
  pluginRoutes(router);
  hostRoutes(router, options.hosts);
  router.get(/^\/metrics$/, (request, response) => metrics.answer(request, response));
  swarmRoutes(router);
  application.use(refuseHeadOfStreams);
  application.use(router);
  application.use(pageNotFound);
  application.use(errorHandler(options.logger));
  return application;
}
