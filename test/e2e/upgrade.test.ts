/** `flotilla upgrade --from DIR` while containers run and clients are connected, back again, and versions that cannot take over. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { waitFor } from '@flotilla/testkit';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkout, edit, present, repository, upgrade, upgradeTakesMs } from './checkout.ts';
import { countedSoFar, endCounter, pidOf, startCounter } from './counter.ts';
import { useStack } from './stack.ts';
import { watched } from './watched.ts';

// At the end another checkout's services run.
const stack = useStack({ ignoreLeaks: [/^process \S+\/node\/bin\/node /] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
/** Service → version, from what takes calls: one that drains may still be of another. */
async function versions(): Promise<Record<string, string>> {
  const { stdout } = await stack.host.flotilla('ps', '--json');
  const processes = JSON.parse(stdout) as { service: string; version: string; draining: boolean }[];
  return Object.fromEntries(
    processes
      .filter(({ service, draining }) => !['redis', 'nats'].includes(service) && !draining)
      .map(({ service, version }) => [service, version]),
  );
}

const everywhere = (version: string): Record<string, string> =>
  Object.fromEntries(['container-service', 'gateway', 'image-service', 'network-volume', 'registry-proxy'].map((name) => [name, version]));

let newer = '';
beforeAll(async () => {
  newer = checkout(stack, '0.9.0');
  await startCounter(stack, 'counter');
});

describe('flotilla upgrade', () => {
  it(
    'replaces every service, and neither containers nor clients notice; so does the way back',
    async () => {
      const pid = await pidOf(stack, 'counter');
      const follower = watched(stack, 'logs', '-f', 'counter');
      const attached = watched(stack, 'attach', '--no-stdin', 'counter');
      const waiter = watched(stack, 'wait', 'counter');
      await waitFor(() => [follower, attached].every(({ output }) => output() !== ''), { what: 'every client to hear something' });
      const engines = (await stack.host.processes()).filter(({ service }) => ['redis', 'nats'].includes(service)).map((one) => one.pid);
      const stop = new AbortController();
      const failures: string[] = [];
      let calls = 0;
      const client = async (...args: string[]): Promise<void> => {
        while (!stop.signal.aborted) {
          calls++;
          const { code, stdout, stderr } = await stack.host.docker(...args);
          if (code !== 0) failures.push(`docker ${args[0]}: ${stdout}${stderr}`);
          await pause(100);
        }
      };
      const clients = [
        client('ps', '-a'),
        client('logs', '--tail', '1', 'counter'),
        client('run', '--rm', stack.busybox, 'true'),
        client('exec', 'counter', 'true'),
        client('pull', '-q', stack.busybox),
      ];
      try {
        const up = await upgrade(stack, newer);
        expect(up.code, up.stdout + up.stderr).toBe(0);
        expect(up.stdout).toContain('upgraded to 0.9.0');
        expect(await versions()).toEqual(everywhere('0.9.0'));
        const back = await upgrade(stack, repository);
        expect(back.code, back.stdout + back.stderr).toBe(0);
        expect(await versions()).toEqual(everywhere(present));
      } finally {
        stop.abort();
        await Promise.all(clients);
      }
      expect(failures).toEqual([]);
      expect(calls).toBeGreaterThan(8);
      expect((await stack.host.processes()).filter(({ service }) => ['redis', 'nats'].includes(service)).map((one) => one.pid)).toEqual(
        engines,
      );
      expect(await pidOf(stack, 'counter')).toBe(pid);
      const counted = await countedSoFar(stack, 'counter');
      await waitFor(async () => (await countedSoFar(stack, 'counter')) > counted);
      await endCounter(stack, 'counter');
      // Not one of them was cut: what is under way ends where it has begun, or goes on elsewhere.
      expect(await follower.code, follower.errors()).toBe(0);
      expect(await attached.code, attached.errors()).toBe(42);
      expect(await waiter.code, waiter.errors()).toBe(0);
      expect(waiter.output().trim()).toBe('42');
      const lines = follower.output().split('\n').slice(0, -1);
      expect(lines).toEqual((await must('logs', 'counter')).split('\n'));
      const seen = attached.output().split('\n').slice(0, -1);
      expect(seen).toEqual(lines.slice(-seen.length));
    },
    2 * upgradeTakesMs + 60_000,
  );

  it(
    'goes back by itself when a service of the new version does not come up',
    async () => {
      const broken = checkout(stack, '0.9.1');
      edit(join(broken, 'services/image-service/src/main.ts'), (text) =>
        text.replace('if (import.meta.main)', 'process.exit(3);\nif (import.meta.main)'),
      );
      const before = (await stack.host.processes()).map((one) => one.pid);
      const { code, stdout, stderr } = await upgrade(stack, broken);
      expect(code).toBe(1);
      expect(stdout + stderr).toContain('image-service does not come up');
      expect(stderr).toContain('what ran before runs on');
      expect(await versions()).toEqual(everywhere(present));
      // Those that came up before are gone again, and who was not replaced is still there.
      const now = (await stack.host.processes()).map((one) => one.pid);
      expect(before.filter((pid) => now.includes(pid)).length).toBeGreaterThan(2);
      expect(await must('run', '--rm', stack.busybox, 'echo', 'well')).toBe('well');
    },
    2 * upgradeTakesMs,
  );

  it(
    'brings records to a newer schema, and an older version that cannot read them says so',
    async () => {
      const later = checkout(stack, '0.9.2');
      edit(join(later, 'packages/records/src/schema.ts'), (text) => text.replace('{ version: 1,', '{ version: 2,'));
      await must('create', '--name', 'kept', stack.busybox);
      const up = await upgrade(stack, later);
      expect(up.code, up.stdout + up.stderr).toBe(0);
      expect(await must('inspect', '-f', '{{.State.Status}}', 'kept')).toBe('created');
      const back = await upgrade(stack, repository);
      expect(back.code).toBe(1);
      expect(back.stdout + back.stderr).toContain('what ran before runs on');
      expect(readFileSync(join(stack.host.dataRoot, 'logs/network-volume.log'), 'utf8')).toContain(
        'the records of network-volume are of schema 2, written by a newer version; this one knows them up to 1',
      );
      expect(await versions()).toEqual(everywhere('0.9.2'));
      expect(await must('start', 'kept')).toBe('kept');
    },
    2 * upgradeTakesMs + 60_000,
  );

  it('refuses a directory that is no checkout, before anything is touched', async () => {
    const before = await stack.host.processes();
    const refused = await upgrade(stack, dirname(stack.host.filesDirectory));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('is no checkout of Flotilla');
    expect((await stack.host.processes()).map((one) => one.pid)).toEqual(before.map((one) => one.pid));
  });
});
