/** The CLI's plugins buildx and Compose v2, found by the CLI through DOCKER_CONFIG, and an old CLI: fetched once by deploy/dockerPlugins.sh. */
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from './command.ts';
import type { TestHost } from './testHost.ts';

const repository = join(import.meta.dirname, '../../..');
const fetchTimeoutMs = 240_000;

async function fetchAll(): Promise<string> {
  const folder = join(repository, '.cache/docker-plugins');
  await mustRun('sh', [join(repository, 'deploy/dockerPlugins.sh'), folder], { timeoutMs: fetchTimeoutMs });
  return folder;
}

/** The path of a CLI of version 20.10, which builds by BuildKit's protocol without buildx. */
export async function oldDockerClient(): Promise<string> {
  return join(await fetchAll(), 'docker-20.10');
}

/** Puts them into a configuration folder of the CLI. */
export async function linkDockerPlugins(config: string): Promise<void> {
  const folder = await fetchAll();
  const target = join(config, 'cli-plugins');
  mkdirSync(target, { recursive: true });
  for (const plugin of ['docker-buildx', 'docker-compose']) symlinkSync(join(folder, plugin), join(target, plugin));
}

/** `docker build` of this host is buildx from here on, and `docker compose` is there. */
export function addDockerPlugins(host: TestHost): Promise<void> {
  return linkDockerPlugins(join(host.directory, 'docker'));
}
