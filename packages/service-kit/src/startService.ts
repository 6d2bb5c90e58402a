/** How every service starts and stops: settings, log, bus, discovery, health and gRPC server, wired the same way everywhere. */
import { errorMessage, Unavailable } from '@flotilla/errors';
import { z } from 'zod';
import { Bus } from './bus.ts';
import { readConfig, type ServiceSettings, serviceSettings } from './config.ts';
import { Discovery } from './discovery.ts';
import { Health } from './health.ts';
import { Lifecycle } from './lifecycle.ts';
import { createLogger, type Logger } from './logger.ts';
import { followPolicy, type PolicySource } from './rights/policyFile.ts';
import { GrpcServer } from './server.ts';
import { letHeapGrow, settleAfterStart } from './settle.ts';
import { Tracer } from './tracing.ts';
import { version } from './version.ts';
import { Workload } from './workload.ts';

export interface ServiceKit<S extends ServiceSettings> {
  readonly settings: S;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
  readonly health: Health;
  readonly bus: Bus;
  readonly discovery: Discovery;
  readonly server: GrpcServer;
  readonly workload: Workload;
  /** Who may do what; absent: all may do all. */
  readonly policy?: PolicySource | undefined;
  /** Absent: nobody wants spans. */
  readonly tracer?: Tracer | undefined;
}

/** A started service: what `--compact` holds five of in one process. */
export interface RunningService {
  readonly name: string;
  readonly logger: Logger;
  readonly lifecycle: Lifecycle;
  readonly health: Health;
}

const drainMs = 5_000;

/**
 * Starts a service. `build` makes its adapters and adds its gRPC services to `kit.server`; only when it has resolved (state re-read, reconciled)
 * does the instance listen and announce itself.
 *
 * @throws InvalidParameter when settings are wrong; whatever `build` throws, after stopping what had been started.
 */
export async function startService<S extends ServiceSettings>(
  name: string,
  schema: z.ZodType<S>,
  env: NodeJS.ProcessEnv,
  build: (kit: ServiceKit<S>) => Promise<void>,
): Promise<RunningService> {
  const settings = readConfig(schema, env);
  const logger = createLogger({ service: name, instance: settings.FLOTILLA_INSTANCE, level: settings.FLOTILLA_LOG_LEVEL });
  const lifecycle = new Lifecycle(logger);
  try {
    const health = new Health();
    const bus = await Bus.connect({
      url: settings.FLOTILLA_NATS_URL,
      user: settings.FLOTILLA_NATS_USER,
      password: settings.FLOTILLA_NATS_PASSWORD,
      credentials: settings.FLOTILLA_NATS_CREDENTIALS,
      tls: settings.FLOTILLA_NATS_TLS,
      engineId: settings.FLOTILLA_ENGINE_ID,
      name: `${name}/${settings.FLOTILLA_INSTANCE}`,
      logger,
    });
    lifecycle.onStop('bus', () => bus.close());
    health.addCheck('nats', () => {
      if (!bus.connected) throw new Unavailable('not connected');
    });
    const discovery = new Discovery({ bus });
    lifecycle.onStop('discovery', () => discovery.stop());
    const { policyFile } = settings.FLOTILLA_ENGINE_OPTIONS;
    // registry-proxy carries out nothing that a policy speaks of, and may not read it.
    const policy = policyFile === undefined || name === 'registry-proxy' ? undefined : followPolicy(policyFile, logger);
    const tracer = Tracer.from(settings, { service: name, instance: settings.FLOTILLA_INSTANCE, logger });
    if (tracer !== undefined) lifecycle.onStop('spans', () => tracer.stop());
    const workload = new Workload();
    const server = new GrpcServer({ logger, health, policy, tracer, workload });
    await build({ settings, logger, lifecycle, health, bus, discovery, server, workload, policy, tracer });
    if (settings.FLOTILLA_GRPC_ADDRESS !== '') {
      await server.listen(settings.FLOTILLA_GRPC_ADDRESS);
      lifecycle.onStop('grpc server', () => server.shutdown(drainMs));
      lifecycle.onDrain({ name: 'calls', move: () => server.move(), isBusy: () => server.callsUnderWay > 0 });
    }
    discovery.announce(
      {
        service: name,
        instance: settings.FLOTILLA_INSTANCE,
        pid: process.pid,
        grpcAddress: settings.FLOTILLA_GRPC_ADDRESS,
        httpAddress: settings.FLOTILLA_HTTP_ADDRESS,
        version,
      },
      health,
    );
    lifecycle.onStop('announcement', () => discovery.leave());
    lifecycle.onDrain({ name: 'announcement', begin: () => discovery.drain(), isBusy: () => false });
    logger.info({ pid: process.pid }, 'ready');
    return { name, logger, lifecycle, health };
  } catch (error) {
    logger.fatal({ error }, 'failed to start');
    await lifecycle.stop();
    throw error;
  }
}

/** Runs a service as this process: signals stop it, and an error nobody caught is logged and ends it (the supervisor starts it again). */
export async function runAsProcess(start: (env: NodeJS.ProcessEnv) => Promise<RunningService>): Promise<void> {
  try {
    const service = await start(process.env);
    service.lifecycle.handleSignals();
    letHeapGrow();
    settleAfterStart(service.logger);
    const onFault = (error: unknown): void => {
      service.logger.fatal({ error }, 'uncaught');
      process.exit(1);
    };
    process.on('uncaughtException', onFault);
    process.on('unhandledRejection', onFault);
  } catch (error) {
    process.stderr.write(`${errorMessage(error)}\n`);
    process.exit(1);
  }
}

/** The schema of a service that needs no settings of its own. */
export const plainSettings: z.ZodType<ServiceSettings> = z.object(serviceSettings);
