import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const refused = async (...args: string[]) => (await stack.host.docker(...args)).stderr;

let folder = '';
let plugin: ChildProcess | undefined;

/** Starts the plugin whose socket the description in /etc/docker/plugins names. */
async function startPlugin(): Promise<void> {
  const socket = join(folder, 'plugin.sock');
  rmSync(socket, { force: true });
  const child = stack.host.spawn(process.execPath, [join(import.meta.dirname, 'volumePlugin.ts'), socket, folder]);
  plugin = child;
  await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
}

async function stopPlugin(): Promise<void> {
  const child = plugin;
  if (child === undefined) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGKILL');
  await gone;
  plugin = undefined;
}

/** What the plugin was asked since the last time, without questions that change nothing. */
function calls(): string[] {
  const path = join(folder, 'calls');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  writeFileSync(path, '');
  return lines
    .map((line) => JSON.parse(line) as { method: string; Name: string })
    .filter(({ method }) => /Create|Remove|Mount$|Unmount/.test(method))
    .map(({ method, Name }) => `${method.replace('VolumeDriver.', '')} ${Name}`);
}

beforeAll(async () => {
  folder = join(stack.host.filesDirectory, 'plugin');
  mkdirSync(folder);
  // Folders that only this host sees.
  await stack.host.sh('mkdir -p /etc/docker && mount -t tmpfs tmpfs /etc/docker && mkdir /etc/docker/plugins');
  await stack.host.sh(`echo unix://${join(folder, 'plugin.sock')} > /etc/docker/plugins/blue.spec`);
  await startPlugin();
});

afterAll(async () => {
  await stopPlugin();
  await stack.host.sh('umount /etc/docker');
});

describe('a volume plugin', () => {
  it('makes, shows, lists and removes its volumes', async () => {
    expect(await must('info', '-f', '{{json .Plugins.Volume}}')).toBe('["blue","local"]');
    await must('volume', 'create', '-d', 'blue', '-o', 'size=big', '--label', 'a=b', 'first');
    expect(readFileSync(join(folder, 'calls'), 'utf8')).toContain('"Opts":{"size":"big"}');
    const [volume] = JSON.parse(await must('volume', 'inspect', 'first'));
    expect(volume).toMatchObject({
      Name: 'first',
      Driver: 'blue',
      Scope: 'global',
      Mountpoint: join(folder, 'volumes/first'),
      Status: { colour: 'blue' },
      Options: { size: 'big' },
      Labels: { a: 'b' },
    });
    expect(await must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).toBe('blue first');
    expect(await must('volume', 'ls', '-q', '--filter', 'driver=local')).toBe('');
    // Only local volumes are pruned.
    await must('volume', 'prune', '-af');
    expect(await refused('volume', 'create', '-d', 'local', 'first')).toContain("driver 'blue' already has volume 'first'");
    await must('volume', 'rm', 'first');
    expect(calls()).toEqual(['Create first', 'Remove first']);
  });

  it('mounts for each container, and keeps what was written', async () => {
    await must('run', '--rm', '-v', 'kept:/x', '--volume-driver', 'blue', stack.busybox, 'sh', '-c', 'echo here > /x/file');
    expect(calls()).toEqual(['Create kept', 'Mount kept', 'Unmount kept']);
    const id = await must('run', '-d', '--mount', 'type=volume,src=kept,dst=/y,volume-driver=blue', stack.busybox, 'sleep', '1000');
    expect(await must('exec', id, 'cat', '/y/file')).toBe('here');
    expect(await must('inspect', '-f', '{{range .Mounts}}{{.Driver}} {{.Source}}{{end}}', id)).toBe(`blue ${join(folder, 'volumes/kept')}`);
    expect(await refused('volume', 'rm', 'kept')).toContain(`volume is in use - [${id}]`);
    await must('rm', '-f', id);
    await must('volume', 'rm', 'kept');
    expect(calls()).toEqual(['Mount kept', 'Unmount kept', 'Remove kept']);
  });

  it('gets what the image has at the mount point', async () => {
    const image = await busyboxImage({
      layers: [
        [
          { path: 'data/', mode: 0o755 },
          { path: 'data/seed', content: 'planted' },
        ],
      ],
    });
    const reference = await stack.push(image, 'plugins/seeded');
    expect(await must('run', '--rm', '-v', 'seeded:/data', '--volume-driver', 'blue', reference, 'cat', '/data/seed')).toBe('planted');
    await must('volume', 'rm', 'seeded');
    calls();
  });

  it('has volumes of its own, which are shown and can be used', async () => {
    mkdirSync(join(folder, 'volumes/foreign'));
    expect(await must('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).toBe('blue foreign');
    expect(await must('volume', 'inspect', '-f', '{{.Driver}} {{.Scope}}', 'foreign')).toBe('blue global');
    rmSync(join(folder, 'volumes/foreign'), { recursive: true });
    expect(await refused('volume', 'inspect', 'foreign')).toContain('get foreign: no such volume');
  });

  it('says in its own words what it cannot do, and nothing is left of it', async () => {
    writeFileSync(join(folder, 'fail-VolumeDriver.Create'), 'out of paint');
    expect(await refused('volume', 'create', '-d', 'blue', 'no')).toContain('create no: VolumeDriver.Create: out of paint');
    expect((await stack.host.docker('run', '-v', 'no:/x', '--volume-driver', 'blue', stack.busybox)).code).toBe(125);
    rmSync(join(folder, 'fail-VolumeDriver.Create'));
    writeFileSync(join(folder, 'fail-VolumeDriver.Mount'), 'wall is wet');
    expect(await refused('run', '--name', 'wet', '-v', 'no:/x', '--volume-driver', 'blue', stack.busybox)).toContain('wall is wet');
    rmSync(join(folder, 'fail-VolumeDriver.Mount'));
    await must('rm', 'wet');
    await must('volume', 'rm', 'no');
    expect(await must('volume', 'ls', '-q')).toBe('');
    calls();
  });

  it('that is down is reported, does not hold up a container’s end, and serves again when it is back', async () => {
    const id = await must('run', '-d', '-v', 'later:/x', '--volume-driver', 'blue', stack.busybox, 'sleep', '1000');
    await stopPlugin();
    expect(await refused('volume', 'create', '-d', 'blue', 'no')).toContain('connect: connection refused');
    expect(await must('volume', 'ls', '-q')).toBe('later');
    await must('rm', '-f', id);
    expect(await refused('volume', 'rm', 'later')).toContain('remove later: ');
    await startPlugin();
    await waitFor(async () => (await stack.host.docker('volume', 'inspect', 'later')).code === 0);
    await must('volume', 'rm', 'later');
    expect(existsSync(join(folder, 'volumes/later'))).toBe(false);
  });

  it('that is not there is refused in dockerd’s words', async () => {
    expect(await refused('volume', 'create', '-d', 'nosuch', 'no')).toContain(
      'create no: error looking up volume plugin nosuch: plugin "nosuch" not found',
    );
    expect(await refused('network', 'create', '-d', 'nosuch', 'no')).toContain('plugin "nosuch" not found');
  });
});
