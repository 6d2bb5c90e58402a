/** The wiring of registry-proxy: what it is made of, in the order it is made. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { type RunningService, runAsProcess, startService } from '@flotilla/service-kit';
import { registriesHandlers } from './api/registries.ts';
import { registryProxySettings } from './config.ts';
import { HttpServer } from './http/server.ts';
import { Login } from './login.ts';
import { RegistryProxy } from './registryProxy.ts';
import { Search } from './search.ts';

const drainMs = 5_000;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return startService('registry-proxy', registryProxySettings, env, async ({ settings, logger, lifecycle, health, server }) => {
    const root = join(settings.FLOTILLA_DATA_ROOT, 'registry-proxy');
    await mkdir(root, { recursive: true, mode: 0o700 });
    const proxy = await RegistryProxy.open(root, settings, env, logger);
    lifecycle.onStop('cache', () => proxy.close());
    const http = new HttpServer({ distribution: proxy.distribution, metrics: proxy.metrics, health, logger });
    if (settings.FLOTILLA_HTTP_ADDRESS !== '') {
      await http.listen(settings.FLOTILLA_HTTP_ADDRESS);
      lifecycle.onStop('http server', () => http.close(drainMs));
    }
    const login = new Login(proxy);
    const search = new Search(proxy);
    server.add(RegistriesService, registriesHandlers({ login, search, endpoints: proxy.endpointSettings }));
  });
}

if (import.meta.main) await runAsProcess(start);
