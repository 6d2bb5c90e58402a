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

  it.each([
    ['in five processes', []],
    ['in one', ['--compact']],
  ])(
    'start the stack with the socket that systemd holds, whose first client is answered, and leave containers alone when it stops: %s',
    async (_form, flags) => {
      const host = await createTestHost();
      try {
        const up = ['sh', join(repository, 'deploy/flotilla'), 'up', '--foreground', '-H', 'fd://', ...flags];
        const configFile = join(host.filesDirectory, 'daemon.json');
        writeFileSync(configFile, '{}');
        const activated = host.spawn('systemd-socket-activate', [
          ...['-l', host.socketPath, ...up, '--data-root', host.dataRoot, '--exec-root', host.execRoot, '--config-file', configFile],
        ]);
        await waitFor(() => host.run('test', ['-S', host.socketPath]).then(({ code }) => code === 0), { what: 'the socket' });
        const get = (path: string) =>
          host.sh(`curl -sS --max-time 90 --unix-socket ${host.socketPath} http://docker${path}`, { timeoutMs: 100_000 });
        // Also what another service knows: it is waited for, the others are not.
        expect(await get('/containers/json')).toBe('[]');
        const healthy = async () => (await host.processes()).every((each) => each.healthy);
        await waitFor(healthy, { timeoutMs: 60_000, what: 'every service to be healthy' });
        writeFileSync(configFile, JSON.stringify({ labels: ['read=again'] }));
        activated.kill('SIGHUP');
        const isReadAgain = async () => (await get('/info')).includes('read=again');
        await waitFor(isReadAgain, { timeoutMs: 90_000, what: 'the new settings, by the same socket' });
        const told = async () =>
          await host.mustDocker('events', '--since', '5m', '--until', '0s', '--filter', 'type=daemon', '--format', '{{json .}}');
        await waitFor(async () => (await told()) !== '', { timeoutMs: 60_000, what: 'the reload to be told' });
        const events = (await told()).split('\n').map((line) => JSON.parse(line) as { Action: string; Actor: { Attributes: object } });
        expect(events).toEqual([
          expect.objectContaining({
            Action: 'reload',
            Actor: expect.objectContaining({ Attributes: expect.objectContaining({ labels: '["read=again"]', 'live-restore': 'true' }) }),
          }),
        ]);
        const archive = join(host.filesDirectory, 'busybox.tar');
        await mustRun('tar', ['-C', '/', '-cf', archive, 'bin/busybox']);
        await host.mustDocker('import', archive, 'box');
        await host.mustDocker('run', '-d', '--name', 'worker', 'box', '/bin/busybox', 'sleep', '600');
        const worker = Number(await host.mustDocker('inspect', '-f', '{{.State.Pid}}', 'worker'));
        // systemd tells the main process alone to stop, and leaves the control groups below to us.
        const service = readFileSync(units[0] ?? '', 'utf8');
        expect([service.match(/^KillMode=.*$/gm), service.match(/^Delegate=.*$/gm)]).toEqual([['KillMode=process'], ['Delegate=yes']]);
        const ended = new Promise((resolve) => activated.on('exit', resolve));
        activated.kill('SIGTERM');
        expect(await ended).toBe(0);
        expect(readFileSync(`/proc/${worker}/cmdline`, 'utf8')).toBe('/bin/busybox\0sleep\x00600\0');
        // It is systemd's: the next start finds it.
        expect((await host.run('test', ['-S', host.socketPath])).code).toBe(0);
      } finally {
        await host.dispose();
      }
    },
    180_000,
  );
});
