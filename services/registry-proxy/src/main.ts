/** The wiring of registry-proxy: what it is made of, in the order it is made. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { type RunningService, runAsProcess, startService } from '@flotilla/service-kit';
import { registriesHandlers } from './api/registries.ts';
import { registryProxySettings, transportSettings } from './config.ts';
import { followHangup } from './hangup.ts';
import { HttpServer } from './http/server.ts';
import { type Lab, LabLink } from './lab.ts';
import { Metrics } from './metrics.ts';
import { RegistryProxy } from './registryProxy.ts';
import { Relay } from './relay.ts';
import { remoteRegistries } from './remoteRegistries.ts';
import { Transport } from './upstream/transport.ts';

const drainMs = 5_000;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return startService('registry-proxy', registryProxySettings, env, async (kit) => {
    const { settings, logger, lifecycle, health, server, workload, tracer } = kit;
    const listen = async (http: HttpServer): Promise<void> => {
      if (settings.FLOTILLA_HTTP_ADDRESS === '') return;
      await http.listen(settings.FLOTILLA_HTTP_ADDRESS);
      lifecycle.onStop('http server', () => http.close(drainMs));
      lifecycle.onDrain(http.drainable);
      http.countIn(workload);
    };
    const { registryProxy } = settings.FLOTILLA_ENGINE_OPTIONS;
    if (registryProxy !== undefined) {
      const link = await LabLink.open(registryProxy, settings, logger);
      lifecycle.onStop('lab', () => link.close());
      followHangup(lifecycle, () => void link.reload());
      const lab = (): Promise<Lab> => link.current();
      const limits = transportSettings(settings, env);
      const relay = new Relay(lab, limits.connectTimeoutMs);
      lifecycle.onStop('relay', () => relay.close());
      const transport = new Transport(limits);
      lifecycle.onStop('connections', () => transport.close());
      await listen(new HttpServer({ distribution: relay, metrics: new Metrics(), health, logger, tracer }));
      server.add(RegistriesService, registriesHandlers(remoteRegistries(lab, transport)));
      return;
    }
    const root = join(settings.FLOTILLA_DATA_ROOT, 'registry-proxy');
    await mkdir(root, { recursive: true, mode: 0o700 });
    const proxy = await RegistryProxy.open(root, settings, env, logger);
    followHangup(lifecycle, () => void proxy.reload());
    lifecycle.onStop('cache', () => proxy.close());
    const { distribution, operations, metrics } = proxy;
    await listen(new HttpServer({ distribution, operations, metrics, health, logger, tracer }));
    server.add(RegistriesService, registriesHandlers(operations));
  });
}

if (import.meta.main) await runAsProcess(start);
