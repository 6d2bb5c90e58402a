/** Engines started for a run: each in a test host of its own (network, mounts, data root), with a registry on its loopback. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTestHost, pushImage, startRegistry, type TestHost, type TestImage, type TestRegistry, waitFor } from '@flotilla/testkit';
import { Engine } from './engine.ts';

export const engineKinds = ['flotilla', 'dockerd', 'podman', 'flotilla-compact'] as const;
export type EngineKind = (typeof engineKinds)[number];
/** Those that a run without `--engines` measures. */
export const usualEngines: readonly EngineKind[] = ['flotilla', 'dockerd', 'podman'];

export interface HostedEngine {
  readonly engine: Engine;
  readonly registry: TestRegistry;
  /** A process of the host, to tell its namespaces by. */
  readonly pid: number;
  stop(): Promise<void>;
}

const registryPort = 5000;

async function startEngine(kind: EngineKind, host: TestHost): Promise<{ socketPath: string; stop: () => Promise<void> }> {
  if (kind === 'flotilla' || kind === 'flotilla-compact') {
    await host.startStack({ args: kind === 'flotilla' ? [] : ['--compact'] });
    return { socketPath: host.socketPath, stop: () => host.stopStack() };
  }
  const socketPath = join(host.execRoot, `${kind}.sock`);
  const child =
    kind === 'dockerd'
      ? host.spawn('dockerd', [
          '--data-root',
          host.dataRoot,
          '--exec-root',
          host.execRoot,
          '-H',
          `unix://${socketPath}`,
          '--pidfile',
          join(host.execRoot, 'dockerd.pid'),
        ])
      : host.spawn(
          'podman',
          ['--root', host.dataRoot, '--runroot', host.execRoot, 'system', 'service', '--time=0', `unix://${socketPath}`],
          {
            env: { ...process.env, ...podmanConfiguration(host.filesDirectory) },
          },
        );
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  const engine = new Engine(kind, socketPath);
  await waitFor(
    async () => {
      if (child.exitCode !== null) throw new Error(`${kind} ended: ${output}`);
      return existsSync(socketPath) && (await engine.call('GET', '/_ping').catch(() => undefined))?.status === 200;
    },
    { timeoutMs: 60_000, what: `${kind} to answer` },
  );
  engine.close();
  return {
    socketPath,
    stop: async () => {
      child.kill('SIGTERM');
      await waitFor(() => child.exitCode !== null || child.signalCode !== null, { timeoutMs: 30_000, what: `${kind} to stop` });
    },
  };
}

/** Podman raises rlimits by default, which a machine without CAP_SYS_RESOURCE refuses, and speaks HTTPS to loopback registries unless told. */
function podmanConfiguration(directory: string): NodeJS.ProcessEnv {
  const containers = join(directory, 'containers.conf');
  const registries = join(directory, 'registries.conf');
  writeFileSync(containers, '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n');
  writeFileSync(registries, `[[registry]]\nlocation = "127.0.0.1:${registryPort}"\ninsecure = true\n`);
  return { CONTAINERS_CONF: containers, CONTAINERS_REGISTRIES_CONF: registries };
}

/** Starts an engine with a registry that holds `image` as `127.0.0.1:5000/large:latest`. */
export async function startHosted(kind: EngineKind, image: TestImage): Promise<HostedEngine> {
  const host = await createTestHost({ name: kind });
  try {
    await host.sh('mkdir -p /run && mount -t tmpfs tmpfs /run');
    const registry = await startRegistry({ place: host, port: registryPort });
    await pushImage(image, { address: registry.address, repository: 'large', tag: 'latest' }, host);
    const { socketPath, stop } = await startEngine(kind, host);
    return {
      engine: new Engine(kind, socketPath, host),
      registry,
      pid: host.namespaces.pid,
      stop: async () => {
        await stop();
        await registry.stop();
        await host.dispose();
      },
    };
  } catch (error) {
    await host.dispose();
    throw error;
  }
}
