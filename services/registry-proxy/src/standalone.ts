/** A proxy without a stack: what a lab's hosts, and other engines, share (`flotilla registry up`). Replicas share its data root. */
import { mkdir } from 'node:fs/promises';
import { errorMessage } from '@flotilla/errors';
import { createLogger, Health, Lifecycle, readConfig, settleAfterStart } from '@flotilla/service-kit';
import { standaloneSettings } from './config.ts';
import { openDownstream } from './downstream/open.ts';
import { followHangup } from './hangup.ts';
import { HttpServer } from './http/server.ts';
import { RegistryProxy } from './registryProxy.ts';
import { replicaOptions } from './replicas/open.ts';

/** Pulls under way may end. */
const drainMs = 30_000;

async function start(env: NodeJS.ProcessEnv): Promise<void> {
  const settings = readConfig(standaloneSettings, env);
  const logger = createLogger({ service: 'registry-proxy', instance: settings.FLOTILLA_INSTANCE, level: settings.FLOTILLA_LOG_LEVEL });
  const lifecycle = new Lifecycle(logger);
  lifecycle.handleSignals();
  const root = settings.FLOTILLA_DATA_ROOT;
  await mkdir(root, { recursive: true, mode: 0o700 });
  const downstream = openDownstream(settings, logger);
  lifecycle.onStop('downstream', () => downstream.close());
  const replicas = replicaOptions(settings, () => downstream.parts.tls?.certificate);
  const proxy = await RegistryProxy.open(root, settings, env, logger, {
    sharedByStacks: true,
    ...(replicas === undefined ? {} : { replicas }),
  });
  const { distribution, operations, metrics } = proxy;
  lifecycle.onStop('cache', () => proxy.close());
  followHangup(lifecycle, () => {
    void proxy.reload();
    downstream.reload();
  });
  const fleet = proxy.replicas?.fleet;
  const http = new HttpServer({
    ...downstream.parts,
    distribution,
    operations,
    metrics,
    health: new Health(),
    logger,
    ...(fleet === undefined ? {} : { fleet }),
  });
  await http.listen(settings.FLOTILLA_HTTP_ADDRESS);
  lifecycle.onStop('http server', () => http.close(drainMs));
  await proxy.replicas?.roll.start();
  settleAfterStart(logger);
  logger.info({ pid: process.pid, address: settings.FLOTILLA_HTTP_ADDRESS }, 'ready');
}

try {
  await start(process.env);
} catch (error) {
  process.stderr.write(`flotilla: ${errorMessage(error)}\n`);
  process.exit(1);
}
