/** A real dockerd beside our stack, in a host of its own: what it makes of the same input is what we are compared with. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createTestHost, pushImage, startRegistry, type TestHost, type TestImage, waitFor } from '@flotilla/testkit';

/** Starts Debian's dockerd without networks; the caller disposes the host. */
export async function startDockerd(): Promise<TestHost> {
  const peer = await createTestHost({ name: 'dockerd' });
  try {
    await ownRun(peer);
    await runDockerd(peer, ['--iptables=false', '--bridge=none']);
    return peer;
  } catch (error) {
    await peer.dispose();
    throw error;
  }
}

/** Runs a dockerd in a host that is there, until it is disposed. */
export async function runDockerd(peer: TestHost, args: readonly string[]): Promise<void> {
  const roots = ['--data-root', peer.dataRoot, '--exec-root', peer.execRoot, '--pidfile', join(peer.execRoot, 'dockerd.pid')];
  const daemon = peer.spawn('dockerd', [...roots, '-H', `unix://${peer.socketPath}`, ...args]);
  // What it logs and nobody takes would stop it.
  for (const stream of [daemon.stdout, daemon.stderr]) stream?.resume();
  peer.onDispose(async () => {
    daemon.kill('SIGTERM');
    await waitFor(() => daemon.exitCode !== null || daemon.signalCode !== null, { timeoutMs: 60_000, what: 'dockerd to stop' });
  });
  await waitFor(async () => existsSync(peer.socketPath) && (await peer.docker('version')).code === 0, {
    timeoutMs: 60_000,
    what: 'dockerd',
  });
}

/** The same with its networks, and a registry on port 5000 that has the image as `busybox`, as beside our stack. */
export async function startNetworkedDockerd(busybox: TestImage): Promise<TestHost> {
  const peer = await createTestHost();
  try {
    const registry = await startRegistry({ place: peer, port: 5000 });
    peer.onDispose(() => registry.stop());
    await pushImage(busybox, { address: registry.address, repository: 'busybox', tag: 'latest' }, peer);
    await ownRun(peer);
    await runDockerd(peer, []);
    return peer;
  } catch (error) {
    await peer.dispose();
    throw error;
  }
}

/** What its runtime keeps in /run is the peer's alone. */
async function ownRun(peer: TestHost): Promise<void> {
  await peer.sh('mkdir -p /run && mount -t tmpfs tmpfs /run');
}
