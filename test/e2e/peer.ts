/** A real dockerd beside our stack, in a host of its own: what it makes of the same input is what we are compared with. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createTestHost, type TestHost, waitFor } from '@flotilla/testkit';

/** Starts Debian's dockerd without networks; the caller disposes the host. */
export async function startDockerd(): Promise<TestHost> {
  const peer = await createTestHost({ name: 'dockerd' });
  try {
    await peer.sh('mkdir -p /run && mount -t tmpfs tmpfs /run');
    const roots = ['--data-root', peer.dataRoot, '--exec-root', peer.execRoot, '--pidfile', join(peer.execRoot, 'dockerd.pid')];
    const daemon = peer.spawn('dockerd', [...roots, '-H', `unix://${peer.socketPath}`, '--iptables=false', '--bridge=none']);
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
    return peer;
  } catch (error) {
    await peer.dispose();
    throw error;
  }
}
