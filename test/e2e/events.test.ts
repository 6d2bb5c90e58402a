import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const short = '{{.Type}} {{.Action}}';

/** A time for --since that nothing before now can be after. */
async function now(): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, 20));
  return (Date.now() / 1000).toFixed(3);
}

async function eventsSince(since: string, ...args: string[]): Promise<string[]> {
  // Until is the future by a moment: events travel, they are not there in the same instant.
  const until = (Date.now() / 1000 + 0.7).toFixed(3);
  return (await must('events', '--since', since, '--until', until, ...args)).split('\n').filter(Boolean);
}

describe('docker events', () => {
  it('tell the life of a container in order', async () => {
    const since = await now();
    await must('run', '--rm', '--name', 'life', stack.busybox, 'true');
    const seen = await eventsSince(since, '--format', short);
    const container = seen.filter((line) => line.startsWith('container '));
    expect(container).toEqual(['container create', 'container attach', 'container start', 'container die', 'container destroy']);
    expect(seen.filter((line) => line.startsWith('network '))).toEqual(['network connect', 'network disconnect']);
    expect(seen.indexOf('network connect')).toBeLessThan(seen.indexOf('container start'));
    expect(seen.indexOf('network disconnect')).toBeLessThan(seen.indexOf('container destroy'));
  });

  it('carry who, what and how it ended', async () => {
    const since = await now();
    await stack.host.docker('run', '--rm', '--name', 'code', '-l', 'own=label', stack.busybox, 'sh', '-c', 'exit 3');
    const [die] = (await eventsSince(since, '--filter', 'event=die', '--format', '{{json .}}')).map((line) => JSON.parse(line));
    expect(die).toMatchObject({
      Type: 'container',
      Action: 'die',
      scope: 'local',
      Actor: { Attributes: { name: 'code', exitCode: '3', image: stack.busybox, own: 'label' } },
    });
    expect(die.Actor.ID).toMatch(/^[0-9a-f]{64}$/);
    expect(Math.abs(die.time - Date.now() / 1000)).toBeLessThan(30);
  });

  it('tell what was read and written of a container', async () => {
    await must('run', '-d', '--name', 'handled', stack.busybox, 'sleep', '1000');
    const since = await now();
    await must('top', 'handled');
    await must('cp', 'handled:/etc/hostname', '-');
    await must('cp', '/etc/hostname', 'handled:/copied');
    expect((await stack.host.docker('cp', '/etc/hostname', 'handled:/no/such/place')).code).toBe(1);
    await must('export', 'handled');
    await must('rename', 'handled', 'renamed');
    expect(await eventsSince(since, '--filter', 'type=container', '--format', '{{.Action}} {{.Actor.Attributes.name}}')).toEqual([
      'top handled',
      'archive-path handled',
      'extract-to-dir handled',
      'export handled',
      'rename renamed',
    ]);
    await must('rm', '-f', 'renamed');
  });

  it('tell what was made of a container by the names that the CLI shows, and what it ran', async () => {
    await must('run', '-d', '--name', 'source', stack.busybox, 'sleep', '1000');
    const since = await now();
    await must('exec', 'source', 'true');
    await must('exec', 'source', 'echo', 'a', 'b');
    await must('commit', 'source', 'made:1');
    const told = await eventsSince(since, '--filter', 'type=container', '--format', '[{{.Action}}] {{index .Actor.Attributes "imageRef"}}');
    expect(told.filter((line) => !line.includes('pause') && !line.includes('die'))).toEqual([
      '[exec_create: true ] ',
      '[exec_start: true ] ',
      '[exec_create: echo a b] ',
      '[exec_start: echo a b] ',
      '[commit] made:1',
    ]);
    await must('rm', '-f', 'source');
    await must('rmi', 'made:1');
    const before = await now();
    await stack.host.sh('tar -C /etc -c hostname | docker import - brought:1', { env: stack.host.dockerEnvironment });
    expect(
      await eventsSince(before, '--filter', 'event=tag', '--filter', 'event=import', '--format', '{{.Action}} {{.Actor.Attributes.name}}'),
    ).toEqual(['tag brought:1', expect.stringMatching(/^import sha256:/)]);
    await must('rmi', 'brought:1');
  });

  it('tell of prunes, also of those that found nothing', async () => {
    const since = await now();
    for (const kind of ['container', 'network', 'volume', 'image', 'builder']) await must(kind, 'prune', '-f');
    const told = await eventsSince(since, '--filter', 'event=prune', '--format', '{{.Type}} {{.Action}} {{.Actor.Attributes.reclaimed}}');
    expect(told.sort()).toEqual(['builder prune 0', 'container prune 0', 'image prune 0', 'network prune 0', 'volume prune 0']);
  });

  it('come live', async () => {
    const child = stack.host.dockerSpawn('events', '--filter', 'type=container', '--format', '{{.Action}} {{.Actor.Attributes.name}}');
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    await must('run', '-d', '--name', 'seen', stack.busybox, 'sleep', '1000');
    await waitFor(() => output.includes('create seen\n') && output.includes('start seen\n'), { timeoutMs: 3_000 });
    await must('kill', 'seen');
    await waitFor(() => output.includes('kill seen\n') && output.includes('die seen\n'), { timeoutMs: 3_000 });
    await must('rm', 'seen');
    await waitFor(() => output.includes('destroy seen\n'), { timeoutMs: 3_000 });
    child.kill();
  });

  it('are told of images and volumes too', async () => {
    const since = await now();
    await must('tag', stack.busybox, 'events/box:1');
    await must('rmi', 'events/box:1');
    await must('pull', '-q', stack.busybox);
    await must('volume', 'create', 'eventful');
    await must('volume', 'rm', 'eventful');
    expect(await eventsSince(since, '--format', short)).toEqual([
      'image tag',
      'image untag',
      'image pull',
      'volume create',
      'volume destroy',
    ]);
  });

  it('are filtered', async () => {
    const since = await now();
    const id = await must('run', '-d', '--name', 'picked', '-l', 'tint=red', stack.busybox, 'sleep', '1000');
    await must('create', '--name', 'other', stack.busybox);
    expect(await eventsSince(since, '--filter', 'container=picked', '--filter', 'type=container', '--format', short)).toEqual([
      'container create',
      'container start',
    ]);
    expect(await eventsSince(since, '--filter', `container=${id}`, '--filter', 'event=start', '--format', short)).toEqual([
      'container start',
    ]);
    expect(await eventsSince(since, '--filter', 'label=tint=red', '--filter', 'event=create', '--format', short)).toEqual([
      'container create',
    ]);
    expect(
      await eventsSince(since, '--filter', `image=${stack.busybox}`, '--filter', 'event=create', '--format', '{{.Actor.Attributes.name}}'),
    ).toEqual(['picked', 'other']);
    await must('rm', '-f', 'picked', 'other');
  });

  it('tell of stop, restart, pause, rename and exec', async () => {
    await must('run', '-d', '--name', 'acted', stack.busybox, 'sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done');
    const since = await now();
    await must('pause', 'acted');
    await must('unpause', 'acted');
    await must('rename', 'acted', 'renamed');
    await must('exec', 'renamed', 'true');
    await must('restart', 'renamed');
    await must('stop', 'renamed');
    const seen = await eventsSince(since, '--filter', 'type=container', '--format', '{{.Action}}');
    expect(seen.map((action) => action.replace(/:.*/, ''))).toEqual([
      'pause',
      'unpause',
      'rename',
      'exec_create',
      'exec_start',
      'exec_die',
      'kill',
      'die',
      'stop',
      'start',
      'restart',
      'kill',
      'die',
      'stop',
    ]);
    await must('rm', 'renamed');
  });
});
