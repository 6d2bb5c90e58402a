/** The proxy in this process, on a port of its own, with a cache folder that a test may keep for a second life. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, Health, readConfig } from '@flotilla/service-kit';
import { standaloneSettings } from '../../src/config.ts';
import { openDownstream } from '../../src/downstream/open.ts';
import { HttpServer } from '../../src/http/server.ts';
import { RegistryProxy } from '../../src/registryProxy.ts';

export interface TestProxy {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly root: string;
  readonly proxy: RegistryProxy;
  /** Stops it; its folder stays unless `keep` is left out. */
  stop(keep?: 'keep'): Promise<void>;
}

interface StartOptions {
  readonly root?: string;
  readonly env?: Record<string, string>;
  readonly engine?: Record<string, unknown>;
}

export async function startProxy(options: StartOptions = {}): Promise<TestProxy> {
  if (options.root !== undefined) return startAt(options.root, options);
  const root = mkdtempSync(join(tmpdir(), 'flotilla-registry-proxy-'));
  try {
    return await startAt(root, options);
  } catch (error) {
    rmSync(root, { recursive: true, force: true });
    throw error;
  }
}

async function startAt(root: string, options: StartOptions): Promise<TestProxy> {
  const settings = readConfig(standaloneSettings, {
    FLOTILLA_HTTP_ADDRESS: '127.0.0.1:0',
    FLOTILLA_ENGINE_OPTIONS: JSON.stringify(options.engine ?? {}),
    ...options.env,
  });
  const logger = createLogger({ service: 'registry-proxy', instance: 'test', level: process.env.TEST_LOG_LEVEL ?? 'silent' });
  const proxy = await RegistryProxy.open(root, settings, options.env ?? {}, logger);
  const downstream = openDownstream(settings, logger);
  const http = new HttpServer({
    ...downstream.parts,
    distribution: proxy.distribution,
    operations: proxy.operations,
    metrics: proxy.metrics,
    health: new Health(),
    logger,
  });
  const port = await http.listen(settings.FLOTILLA_HTTP_ADDRESS);
  return {
    url: `${downstream.parts.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    root,
    proxy,
    stop: async (keep) => {
      downstream.close();
      await http.close(0);
      await proxy.close();
      if (keep === undefined) rmSync(root, { recursive: true, force: true });
    },
  };
}

/** X-Registry-Auth for a name and a password. */
export function registryAuth(username: string, password: string): Record<string, string> {
  return { 'x-registry-auth': Buffer.from(JSON.stringify({ username, password })).toString('base64url') };
}
