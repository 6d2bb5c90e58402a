/** Lists by every filter, waiting by every condition, pruning and `system df`: what the API says of containers, and what is freed. */
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();
const docker = (...args: string[]) => stack.host.docker(...args);
const must = (...args: string[]) => stack.host.mustDocker(...args);

describe('docker ps --filter', () => {
  it('every filter there is, alone and together', async () => {
    await must('network', 'create', 'reading');
    const health = ['--health-cmd', 'true', '--health-interval', '300ms'];
    const first = await must('run', '-d', '--name', 'first', '-l', 'side=left', '-p', '18081:80', ...health, stack.busybox, 'sleep', '600');
    await must('run', '--name', 'second', '-l', 'side=right', '-v', 'vessel:/cargo', stack.busybox, 'sh', '-c', 'exit 3').catch(() => '');
    await must('run', '-d', '--name', 'third', '--network', 'reading', '--expose', '9000-9002/udp', stack.busybox, 'sleep', '600');
    await must('create', '--name', 'fourth', '-l', 'com.docker.swarm.task=x', '-l', 'empty=', stack.busybox);
    await must('pause', 'third');
    await waitFor(async () => (await must('inspect', '-f', '{{.State.Health.Status}}', 'first')) === 'healthy');
    const named = async (...filters: string[]): Promise<string> => {
      const args = filters.flatMap((filter) => ['--filter', filter]);
      return (await must('ps', '-a', '--format', '{{.Names}}', ...args)).split('\n').filter(Boolean).sort().join(' ');
    };
    for (const [filters, names] of [
      [[`ancestor=${stack.busybox}`], 'first fourth second third'],
      [[`ancestor=${stack.busyboxImage.id}`], 'first fourth second third'],
      [[`ancestor=${stack.busyboxImage.id.slice(7, 19)}`], 'first fourth second third'],
      [['ancestor=no-such-image'], ''],
      [['before=third'], 'first second'],
      [['since=second'], 'fourth third'],
      [['since=first', 'before=fourth'], 'second third'],
      [['expose=9001/udp'], 'third'],
      [['expose=9000-9001/udp'], 'third'],
      [['expose=9001'], ''],
      [['publish=18081'], 'first'],
      [['publish=18000-18100/tcp'], 'first'],
      [['exited=3'], 'second'],
      [['exited=0'], ''],
      [['health=healthy'], 'first'],
      [['health=none'], 'fourth second third'],
      [[`id=${first.slice(0, 12)}`], 'first'],
      [['is-task=true'], 'fourth'],
      [['is-task=false'], 'first second third'],
      [['isolation=default'], 'first fourth second third'],
      [['label=side'], 'first second'],
      [['label=side=left'], 'first'],
      [['label=side', 'label=side=right'], 'second'],
      [['label=empty='], 'fourth'],
      [['name=^f'], 'first fourth'],
      [['name=ir'], 'first third'],
      [['name=/first'], 'first'],
      [['name=^/(second|third)$'], 'second third'],
      [['name=first', 'name=second'], 'first second'],
      [['network=reading'], 'third'],
      [[`network=${await must('network', 'inspect', '-f', '{{.Id}}', 'reading')}`], 'third'],
      [['network=bridge'], 'first fourth second'],
      [['status=running'], 'first'],
      [['status=paused'], 'third'],
      [['status=created', 'status=exited'], 'fourth second'],
      [['volume=vessel'], 'second'],
      [['volume=/cargo'], 'second'],
      [['status=exited', 'label=side=left'], ''],
    ] as const) {
      expect(await named(...filters), filters.join(' ')).toBe(names);
    }
    // Without -a only what runs, but where a filter means others.
    expect((await must('ps', '--format', '{{.Names}}')).split('\n').sort()).toEqual(['first', 'third']);
    expect(await must('ps', '--format', '{{.Names}}', '--filter', 'status=exited')).toBe('second');
    expect(await must('ps', '-n', '2', '--format', '{{.Names}}')).toBe('fourth\nthird');
    expect(await must('ps', '-l', '--format', '{{.Names}}')).toBe('fourth');
    for (const [filter, says] of [
      ['odd=1', "invalid filter 'odd'"],
      ['status=asleep', "invalid filter 'status=asleep'"],
      ['health=fine', 'unrecognised filter value for health: fine'],
      ['exited=x', 'exited=x'],
      ['publish=x', 'publish=x'],
      ['is-task=perhaps', "invalid filter 'is-task=[perhaps]'"],
      ['before=ghost', 'No such container: ghost'],
    ] as const) {
      const { code, stderr } = await docker('ps', '-a', '--filter', filter);
      expect(code).toBe(1);
      expect(stderr).toContain(says);
    }
    await must('unpause', 'third');
    await must('rm', '-f', 'first', 'second', 'third', 'fourth');
    await must('network', 'rm', 'reading');
    await must('volume', 'rm', 'vessel');
  });
});

describe('POST /wait', () => {
  /** Sends the request; resolves with the head as soon as it is there, and with all that follows. */
  function wait(container: string, condition: string): Promise<{ head: string; rest: Promise<string> }> {
    return new Promise((resolve, reject) => {
      const socket = connect(stack.host.socketPath);
      let text = '';
      const rest = new Promise<string>((done) => socket.once('close', () => done(text)));
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes('\r\n\r\n')) resolve({ head: text.slice(0, text.indexOf('\r\n')), rest });
      });
      socket.once('error', reject);
      socket.write(`POST /v1.50/containers/${container}/wait?condition=${condition} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n`);
    });
  }

  it('answers its head at once, and the rest when the condition holds', async () => {
    await must('create', '--name', 'awaited', stack.busybox, 'sh', '-c', 'sleep 0.3; exit 6');
    // It does not run yet: that is `not-running` already, and neither of the others.
    expect(await (await wait('awaited', 'not-running')).rest).toContain('"StatusCode":0');
    const next = await wait('awaited', 'next-exit');
    const removed = await wait('awaited', 'removed');
    expect([next.head, removed.head]).toEqual(['HTTP/1.1 200 OK', 'HTTP/1.1 200 OK']);
    await must('start', 'awaited');
    expect(await next.rest).toContain('"StatusCode":6');
    expect(await (await wait('awaited', 'not-running')).rest).toContain('"StatusCode":6');
    await must('rm', 'awaited');
    expect(await removed.rest).toContain('"StatusCode":6');
    expect((await wait('awaited', 'removed')).head).toContain('404');
    const bad = await engineApi(stack.host, 'POST', '/v1.50/containers/x/wait?condition=odd');
    expect([bad.status, bad.message]).toEqual([400, 'invalid condition: "odd"']);
  });
});

describe('what experimental engines have', () => {
  it('checkpoints are answered as dockerd does without', async () => {
    const id = await must('create', stack.busybox);
    expect(await engineApi(stack.host, 'POST', `/v1.50/containers/${id}/start?checkpoint=x`)).toMatchObject({
      status: 400,
      message: 'checkpoint is only supported in experimental mode',
    });
    expect(await engineApi(stack.host, 'GET', `/v1.50/containers/${id}/checkpoints`)).toMatchObject({
      status: 404,
      message: 'page not found',
    });
    await must('rm', id);
  });
});

describe('pruning and system df', () => {
  it('counts what is there, and frees what nobody uses', async () => {
    const write = (megabytes: number): string => `dd if=/dev/zero of=/big bs=1M count=${megabytes} 2>/dev/null`;
    await must(
      'run',
      '--name',
      'old',
      '-l',
      'keep=no',
      '-v',
      'data:/data',
      stack.busybox,
      'sh',
      '-c',
      `${write(3)}; cp /big /data/; ln /data/big /data/again; ln -s big /data/link; mkdir /data/sub; echo x > /data/sub/small`,
    );
    await must('run', '--name', 'kept', '-l', 'keep=yes', stack.busybox, 'sh', '-c', `${write(2)}; seq 20000`);
    await must('run', '-d', '--name', 'running', stack.busybox, 'sh', '-c', `${write(1)}; sleep 600`);
    await waitFor(async () => (await must('exec', 'running', 'sh', '-c', 'wc -c < /big')) === '1048576');
    const { json } = await engineApi(stack.host, 'GET', '/v1.50/system/df');
    const usage = json as {
      Containers: { Names: string[]; SizeRw: number; SizeRootFs: number }[];
      Volumes: { Name: string; UsageData: { Size: number; RefCount: number } }[];
      Images: { Containers: number; Size: number }[];
      LayersSize: number;
    };
    const sizes = Object.fromEntries(usage.Containers.map(({ Names, SizeRw }) => [Names[0], Math.floor(SizeRw / 1048576)]));
    expect(sizes).toEqual({ '/old': 3, '/kept': 2, '/running': 1 });
    // What a container has logged is counted as well: it fills the disk like the rest.
    const listed = (await engineApi(stack.host, 'GET', '/v1.50/containers/json?all=1&size=1')).json as typeof usage.Containers;
    const log = statSync(await must('inspect', '-f', '{{.LogPath}}', 'kept')).size;
    expect(log).toBeGreaterThan(100_000);
    const sizeIn = (list: typeof usage.Containers): number => list.find(({ Names }) => Names[0] === '/kept')?.SizeRw ?? 0;
    expect(sizeIn(usage.Containers) - sizeIn(listed)).toBe(log);
    // As on the disk: each inode once, directories not.
    const bytesBelow = async (...folders: string[]): Promise<number> => {
      const files = (await stack.host.sh(`find ${folders.join(' ')} ! -type d -printf '%D:%i %s\\n' | sort -u`)).trim().split('\n');
      return files.reduce((sum, file) => sum + Number(file.split(' ')[1]), 0);
    };
    const onDisk = await bytesBelow(join(stack.host.dataRoot, 'volumes/data/_data'));
    expect(onDisk).toBeGreaterThan(3 * 1048576);
    expect(usage.Volumes.find(({ Name }) => Name === 'data')?.UsageData).toEqual({ Size: onDisk, RefCount: 1 });
    expect(usage.Images[0]?.Containers).toBe(3);
    const layers = stack.busyboxImage.layers.map(({ diffId }) =>
      join(stack.host.dataRoot, 'image-service/layers', diffId.slice(7), 'diff'),
    );
    const layerBytes = await bytesBelow(...layers);
    expect([usage.LayersSize, usage.Images[0]?.Size]).toEqual([layerBytes, layerBytes]);
    const kept = usage.Containers.find(({ Names }) => Names[0] === '/kept');
    const written = await bytesBelow(await must('inspect', '-f', '{{.GraphDriver.Data.UpperDir}}', 'kept'));
    expect([kept?.SizeRw, kept?.SizeRootFs]).toEqual([written + log, written + layerBytes]);
    const table = await must('system', 'df');
    expect(table).toMatch(/^Containers\s+3\s+1\s+\S+MB\s+\S+MB \(\d+%\)$/m);
    expect(table).toMatch(/^Local Volumes\s+1\s+1\s/m);

    expect(await must('container', 'prune', '-f', '--filter', 'label=keep=none')).toBe('Total reclaimed space: 0B');
    expect(await must('container', 'prune', '-f', '--filter', 'until=10m')).toBe('Total reclaimed space: 0B');
    expect((await docker('container', 'prune', '-f', '--filter', 'odd=x')).stderr).toContain("invalid filter 'odd'");
    const old = await must('inspect', '-f', '{{.Id}}', 'old');
    const pruned = await must('container', 'prune', '-f', '--filter', 'label!=keep=yes');
    expect(pruned).toMatch(new RegExp(`^Deleted Containers:\n${old}\n\nTotal reclaimed space: 3\\.1\\d+MB$`));
    expect((await must('ps', '-a', '--format', '{{.Names}}')).split('\n').sort()).toEqual(['kept', 'running']);
    await must('container', 'prune', '-f');
    expect(await must('ps', '-a', '--format', '{{.Names}}')).toBe('running');
    // A named volume goes only when all are meant.
    expect(await must('volume', 'prune', '-f')).toBe('Total reclaimed space: 0B');
    expect(await must('volume', 'prune', '-f', '-a')).toMatch(/^Deleted Volumes:\ndata\n\nTotal reclaimed space: 3\.1\d+MB$/);
    const events = await must('events', '--since', '0', '--until', (Date.now() / 1000 + 0.3).toFixed(3), '--filter', 'event=prune');
    expect(events).toMatch(/container prune .*reclaimed=\d+/);
    await must('rm', '-f', 'running');
  });
});
