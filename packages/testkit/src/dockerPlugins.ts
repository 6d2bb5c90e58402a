/** The CLI's plugins buildx and Compose v2 for one test host: fetched once by deploy/dockerPlugins.sh, found by the CLI through the host's DOCKER_CONFIG. */
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from './command.ts';
import type { TestHost } from './testHost.ts';

const repository = join(import.meta.dirname, '../../..');
const fetchTimeoutMs = 240_000;

/** `docker build` of this host is buildx from here on, and `docker compose` is there. */
export async function addDockerPlugins(host: TestHost): Promise<void> {
  const folder = join(repository, '.cache/docker-plugins');
  await mustRun('sh', [join(repository, 'deploy/dockerPlugins.sh'), folder], { timeoutMs: fetchTimeoutMs });
  const target = join(host.directory, 'docker/cli-plugins');
  mkdirSync(target, { recursive: true });
  for (const plugin of ['docker-buildx', 'docker-compose']) symlinkSync(join(folder, plugin), join(target, plugin));
}
