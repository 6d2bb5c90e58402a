/** The parts of BuildKit's side, put together. */
import type { Logger } from '@flotilla/service-kit';
import type { Builder } from '../build/builder.ts';
import type { CacheUse } from '../build/cacheUse.ts';
import type { ImageStore } from '../imageStore.ts';
import type { Puller } from '../pull.ts';
import { Bridge } from './bridge.ts';
import type { ConnectionParts } from './connection.ts';
import type { ContextCopies } from './contextCopies.ts';
import { Control } from './control.ts';
import { Exporters } from './exporter.ts';
import { Frontend } from './frontend.ts';
import { Jobs } from './job.ts';
import { Sessions } from './session.ts';
import type { WorkerList } from './workers.ts';

export interface BuildkitOptions {
  readonly builder: Builder;
  readonly store: ImageStore;
  readonly puller: Puller;
  readonly copies: ContextCopies;
  readonly cacheUse: CacheUse;
  readonly workers: WorkerList;
  readonly logger: Logger;
}

export function buildkitParts({ builder, store, puller, copies, cacheUse, workers, logger }: BuildkitOptions): {
  readonly connection: ConnectionParts;
  readonly sessions: Sessions;
} {
  const jobs = new Jobs();
  const sessions = new Sessions();
  const frontend = new Frontend({ builder, store, puller, sessions, jobs, copies });
  const bridge = new Bridge({ jobs, frontend, store, workers });
  const control = new Control({ jobs, bridge, exporters: new Exporters({ store, sessions }), cacheUse, workers });
  return { connection: { control, bridge, jobs, logger }, sessions };
}
