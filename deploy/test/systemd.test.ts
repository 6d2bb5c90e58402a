/** The units of deploy/systemd: systemd itself reads them, and a socket that it holds starts the stack. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createTestHost, mustRun, waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';

const repository = join(import.meta.dirname, '../..');
const units = ['flotilla.service', 'flotilla.socket'].map((name) => join(repository, 'deploy/systemd', name));

describe('the systemd units', () => {
  it('are right in every word, for a checkout where they expect it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'flotilla-units-'));
    try {
      const files = units.map((unit) => {
        const file = join(directory, basename(unit));
        writeFileSync(file, readFileSync(unit, 'utf8').replaceAll('/opt/flotilla', repository));
        return file;
      });
      const { stdout, stderr } = await mustRun('systemd-analyze', ['verify', '--man=no', ...files]);
      expect(stdout + stderr).toBe('');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('leave conmon and the containers alone when the service stops', () => {
    const service = readFileSync(units[0] ?? '', 'utf8');
    expect(service).toMatch(/^KillMode=process$/m);
    expect(service).toMatch(/^Delegate=yes$/m);
  });

  it('start the stack with the socket that systemd holds, whose first client is answered', async () => {
    const host = await createTestHost();
    try {
      const up = ['sh', join(repository, 'deploy/flotilla'), 'up', '--foreground', '-H', 'fd://'];
      const configFile = join(host.filesDirectory, 'daemon.json');
      writeFileSync(configFile, '{}');
      const activated = host.spawn('systemd-socket-activate', [
        ...['-l', host.socketPath, ...up, '--data-root', host.dataRoot, '--exec-root', host.execRoot, '--config-file', configFile],
      ]);
      await waitFor(() => host.run('test', ['-S', host.socketPath]).then(({ code }) => code === 0), { what: 'the socket' });
      expect(await host.sh(`curl -sS --max-time 90 --unix-socket ${host.socketPath} http://docker/_ping`, { timeoutMs: 100_000 })).toBe(
        'OK',
      );
      // The gateway answers as soon as it is up itself.
      const healthy = async () => (await host.processes()).every((each) => each.healthy);
      await waitFor(healthy, { timeoutMs: 60_000, what: 'every service to be healthy' });
      writeFileSync(configFile, JSON.stringify({ labels: ['read=again'] }));
      activated.kill('SIGHUP');
      const info = () => host.sh(`curl -sS --max-time 90 --unix-socket ${host.socketPath} http://docker/info`, { timeoutMs: 100_000 });
      await waitFor(async () => (await info()).includes('read=again'), { timeoutMs: 90_000, what: 'the new settings, by the same socket' });
      const ended = new Promise((resolve) => activated.on('exit', resolve));
      activated.kill('SIGTERM');
      expect(await ended).toBe(0);
      // It is systemd's: the next start finds it.
      expect((await host.run('test', ['-S', host.socketPath])).code).toBe(0);
    } finally {
      await host.dispose();
    }
  }, 180_000);
});
