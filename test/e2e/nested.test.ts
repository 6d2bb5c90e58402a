/**
 * docker-compose.yml, proved on Flotilla itself: a stack builds the image of deploy/Dockerfile and runs each process of another stack as a container of its own,
 * in which the docker CLI then works; whatever of it is replaced, its containers go on. One set of steps, in order.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandResult, mustSucceed, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeDebianBase } from './debianBase.ts';
import { useStack } from './stack.ts';

vi.setConfig({ testTimeout: 180_000 });

const repository = join(import.meta.dirname, '../..');
const port = 18_080;
// A filter is kept for each set of capabilities that was used.
const stack = useStack({ ignoreLeaks: [/container-service\/seccomp\//] });

const innerDirectory = (): string => join(stack.host.filesDirectory, 'inner');
const innerSocket = (): string => join(innerDirectory(), 'run/docker.sock');

async function compose(...args: string[]): Promise<string> {
  const env = {
    ...stack.host.dockerEnvironment,
    // Later versions have no field that this Compose needs to replace a container.
    COMPOSE_API_VERSION: '1.44',
    DOCKER_BUILDKIT: '0',
    FLOTILLA_BASE: 'debian-base',
    FLOTILLA_DATA_ROOT: join(innerDirectory(), 'data'),
    FLOTILLA_EXEC_ROOT: join(innerDirectory(), 'run'),
    FLOTILLA_FIREWALL_TABLE: 'inner',
  };
  const words = ['-p', 'inner', '-f', join(repository, 'docker-compose.yml'), ...args];
  return (await stack.host.mustRun('/usr/bin/docker-compose', words, { env, timeoutMs: 170_000 })).stdout;
}

const inner = (...args: string[]): Promise<CommandResult> => stack.host.docker('-H', `unix://${innerSocket()}`, ...args);
const mustInner = async (...args: string[]): Promise<string> =>
  mustSucceed(await inner(...args), `docker ${args.join(' ')}`).stdout.trimEnd();

/** Every service of the inner stack answers. */
async function innerIsWhole(): Promise<void> {
  await waitFor(
    async () => {
      const { code, stdout, stderr } = await inner('info');
      return code === 0 && !/does not answer/.test(stdout + stderr);
    },
    { timeoutMs: 120_000, intervalMs: 200, what: 'the inner stack to answer' },
  );
}

const ticks = async (): Promise<number> => (await mustInner('logs', 'worker')).split('\n').length;
const reach = (at: number): Promise<string> => stack.host.sh(`curl -sS --max-time 5 http://127.0.0.1:${at}/`);

beforeAll(async () => {
  mkdirSync(innerDirectory());
  await makeDebianBase(stack.host, 'debian-base');
  await compose('build');
}, 240_000);

afterAll(async () => {
  // What `flotilla down` leaves to the next start as well.
  await stack.host.sh('nft delete table inet inner; ip link delete flotilla0 || true');
  rmSync(innerDirectory(), { recursive: true, force: true });
});

describe('a stack whose processes are containers of another', () => {
  const page = (text: string): string[] => ['sh', '-c', `mkdir /www; echo ${text} > /www/index.html; exec httpd -f -h /www`];

  it('comes up, each process with the rights it needs', async () => {
    await stack.host.mustDocker('run', '-d', '--name', 'outer', '-p', `${port + 1}:80`, stack.busybox, ...page('outer'));
    await compose('up', '-d');
    await innerIsWhole();
    const rights = await stack.host.mustDocker('ps', '-q', '--filter', 'label=com.docker.compose.project=inner');
    const format = '{{index .Config.Labels "com.docker.compose.service"}} {{.HostConfig.Privileged}} {{.Config.User}}';
    expect((await stack.host.mustDocker('inspect', '--format', format, ...rights.split('\n'))).split('\n').sort()).toEqual([
      'container-service true ',
      'gateway false flotilla-gateway',
      'image-service false ',
      'nats false nats',
      'network-volume true ',
      'prepare false ',
      'redis false redis',
      'registry-proxy false flotilla-registry',
    ]);
  });

  it('runs containers: pull, run, exec, logs, published ports, volumes, build', async () => {
    await mustInner('pull', '-q', stack.busybox);
    await mustInner('tag', stack.busybox, 'busybox');
    expect(await mustInner('run', '--rm', '-v', 'kept:/data', 'busybox', 'sh', '-c', 'echo written > /data/file; cat /data/file')).toBe(
      'written',
    );
    expect(readFileSync(join(innerDirectory(), 'data/volumes/kept/_data/file'), 'utf8')).toBe('written\n');
    await mustInner('run', '-d', '--name', 'worker', 'busybox', 'sh', '-c', 'while :; do echo tick; sleep 0.2; done');
    await mustInner('run', '-d', '--name', 'web', '-p', `${port}:80`, 'busybox', ...page('inner'));
    expect(await mustInner('exec', 'web', 'cat', '/www/index.html')).toBe('inner');
    await waitFor(async () => (await reach(port)) === 'inner\n', { what: 'the published port' });
    // The outer stack's own is not touched by the other's rules.
    expect(await reach(port + 1)).toBe('outer\n');
    const refused = await inner('run', '--rm', '-v', '/srv/of-the-host:/data', 'busybox', 'true');
    expect(refused).toMatchObject({ code: 125, stderr: expect.stringContaining('/srv/of-the-host is not shared with container-service') });
    const context = join(stack.host.filesDirectory, 'context');
    mkdirSync(context);
    writeFileSync(join(context, 'Dockerfile'), 'FROM busybox\nRUN echo built > /built\n');
    await mustInner('build', '-q', '-t', 'built', context);
    expect(await mustInner('run', '--rm', 'built', 'cat', '/built')).toBe('built');
  });

  it('loses no container when container-service, and then every service, is replaced', async () => {
    const pids = (): Promise<string> => mustInner('inspect', '--format', '{{.State.Pid}} {{.RestartCount}}', 'worker', 'web');
    const [before, ticked] = [await pids(), await ticks()];
    await compose('rm', '-s', '-f', 'container-service');
    expect(await reach(port)).toBe('inner\n');
    await compose('up', '-d');
    await innerIsWhole();
    expect(await pids()).toBe(before);
    await compose('restart');
    await innerIsWhole();
    expect(await pids()).toBe(before);
    expect(await ticks()).toBeGreaterThan(ticked);
    expect(await mustInner('exec', 'worker', 'echo', 'answers')).toBe('answers');
    expect(await reach(port)).toBe('inner\n');
  });

  it('is scaled, and one gateway takes the socket over from another', async () => {
    await compose('up', '-d', '--scale', 'image-service=2', '--scale', 'gateway=2');
    const instances = async (service: string): Promise<number> =>
      (await stack.host.sh(`ls ${innerDirectory()}/run/sockets/${service}/*.grpc.sock`)).trimEnd().split('\n').length;
    await waitFor(async () => (await instances('image-service')) === 2 && (await instances('gateway')) === 2, {
      timeoutMs: 60_000,
      what: 'the replicas to be there',
    });
    await stack.host.mustDocker('kill', 'inner_gateway_1');
    await waitFor(async () => (await inner('version')).code === 0, { what: 'the other gateway to have the socket' });
    expect(await mustInner('run', '--rm', 'built', 'cat', '/built')).toBe('built');
  });

  it('leaves nothing behind', async () => {
    await mustInner('rm', '-f', 'worker', 'web');
    await mustInner('volume', 'rm', 'kept');
    await compose('down', '-v');
    await stack.host.mustDocker('rm', '-f', 'outer');
    await stack.host.mustDocker('builder', 'prune', '-af');
    expect(readFileSync(`/proc/${stack.host.namespaces.pid}/mountinfo`, 'utf8')).not.toContain(innerDirectory());
    expect((await stack.host.run('pgrep', ['-f', `${innerDirectory()}/run`])).stdout).toBe('');
    expect(existsSync(innerSocket())).toBe(false);
  });
});
