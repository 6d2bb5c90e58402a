import { createHash } from 'node:crypto';
import { randomBytesOf, waitFor } from '@flotilla/testkit';
import { beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);
const exec = (...args: string[]) => stack.host.docker('exec', ...args);

beforeAll(async () => {
  await must('run', '-d', '--name', 'main', '-e', 'FROM=container', stack.busybox, 'sleep', '100000');
});

describe('docker exec', () => {
  it('gives output on the right stream, and the exit code', async () => {
    expect(await exec('main', 'sh', '-c', 'echo out; echo err >&2; exit 3')).toMatchObject({ code: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('126 and 127, as run does', async () => {
    const missing = await exec('main', 'nosuch');
    expect(missing.code).toBe(127);
    expect(missing.stderr + missing.stdout).toContain('exec: "nosuch": executable file not found in $PATH');
    expect((await exec('main', '/etc/passwd')).code).toBe(126);
  });

  it('-e, -w, -u', async () => {
    expect(await must('exec', '-e', 'OWN=exec', 'main', 'sh', '-c', 'echo $FROM $OWN')).toBe('container exec');
    expect(await must('exec', '-w', '/etc', 'main', 'pwd')).toBe('/etc');
    expect(await must('exec', '-u', 'alice', 'main', 'id', '-un')).toBe('alice');
    expect((await exec('-w', '/no/such', 'main', 'pwd')).code).not.toBe(0);
  });

  it('-i passes stdin and ends with it', async () => {
    const input = randomBytesOf(4 * 1024 * 1024, 'exec');
    const counted = await stack.host.dockerWith({ input }, 'exec', '-i', 'main', 'md5sum');
    expect(counted.stdout).toBe(`${createHash('md5').update(input).digest('hex')}  -\n`);
  });

  it('-d leaves it running beside', async () => {
    expect(await must('exec', '-d', 'main', 'sh', '-c', 'sleep 0.3; touch /made-by-exec; sleep 4321')).toBe('');
    await waitFor(async () => (await exec('main', 'test', '-e', '/made-by-exec')).code === 0);
    expect(await must('exec', 'main', 'ps', '-o', 'args')).toContain('sleep 4321');
  });

  it('shares the namespaces of the container', async () => {
    expect(await must('exec', 'main', 'cat', '/proc/1/comm')).toBe('sleep');
    expect(await must('exec', 'main', 'readlink', '/proc/self/ns/net')).toBe(await must('exec', 'main', 'readlink', '/proc/1/ns/net'));
  });

  it('--privileged has all capabilities, a plain one the default', async () => {
    expect(await must('exec', 'main', 'sh', '-c', 'grep CapEff /proc/self/status | cut -f 2')).toBe('00000000a80425fb');
    expect(await must('exec', '--privileged', 'main', 'sh', '-c', 'grep CapEff /proc/self/status | cut -f 2')).not.toBe('00000000a80425fb');
  });

  it('is refused when the container does not run, or is paused', async () => {
    const id = await must('create', '--name', 'idle', stack.busybox);
    const refused = await exec('idle', 'true');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`container ${id} is not running`);
    expect((await exec('ghost', 'true')).stderr).toContain('No such container: ghost');
    await must('run', '-d', '--name', 'frozen', stack.busybox, 'sleep', '1000');
    await must('pause', 'frozen');
    expect((await exec('frozen', 'true')).stderr).toMatch(/[Cc]ontainer frozen is paused, unpause the container before exec/);
    await must('unpause', 'frozen');
    await must('rm', '-f', 'idle', 'frozen');
  });

  it('ends with the container', async () => {
    await must('run', '-d', '--name', 'short', stack.busybox, 'sleep', '1000');
    const child = stack.host.dockerSpawn('exec', 'short', 'sh', '-c', 'echo on; sleep 5555');
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const exit = new Promise((resolve) => child.once('close', resolve));
    await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
    await must('kill', 'short');
    expect(await exit, stderr).toBe(137);
    await must('rm', 'short');
    expect(stack.host.cgroups.describeProcesses()).not.toContain('sleep 5555');
  });

  it('twenty at once', async () => {
    const results = await Promise.all(Array.from({ length: 20 }, (_, index) => exec('main', 'echo', String(index))));
    expect(results.map((result) => result.stdout.trim())).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
  });
});
