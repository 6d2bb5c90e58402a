/** The build cache as a client sees it, and the options of `docker build` that decide what is taken from it. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxImage, type CommandResult, waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();
let count = 0;

afterEach(async () => {
  await stack.host.mustDocker('image', 'prune', '-f');
});
afterAll(async () => {
  await stack.host.docker('builder', 'prune', '-af');
});

/** Builds a Dockerfile; `BUSYBOX` in it is the base. */
function build(dockerfile: string, ...args: string[]): Promise<CommandResult> {
  const folder = join(stack.host.filesDirectory, `cache-${++count}`);
  mkdirSync(folder);
  writeFileSync(join(folder, 'Dockerfile'), dockerfile.replaceAll('BUSYBOX', stack.busybox));
  writeFileSync(join(folder, 'file'), 'content\n');
  return stack.host.dockerWith({ cwd: folder, env: { DOCKER_BUILDKIT: '0' } }, 'build', '--network', 'none', ...args, '.');
}

async function mustBuild(dockerfile: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await build(dockerfile, ...args);
  if (code !== 0) throw new Error(stdout + stderr);
  return stdout;
}

const cachedSteps = (output: string): number => output.match(/ ---> Using cache\n/g)?.length ?? 0;
const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

async function inspected(image: string, format: string): Promise<string> {
  return stack.host.mustDocker('image', 'inspect', '--format', format, image);
}

interface CacheRow {
  readonly ID: string;
  readonly Type: string;
  readonly Description: string;
  readonly Size: number;
}

async function cache(): Promise<CacheRow[]> {
  const { json } = await engineApi(stack.host, 'GET', '/v1.50/system/df?type=build-cache');
  return (json as { BuildCache: CacheRow[] | null }).BuildCache ?? [];
}

async function prune(query: string): Promise<{ CachesDeleted: string[] | null; SpaceReclaimed: number }> {
  const { json, status } = await engineApi(stack.host, 'POST', `/v1.50/build/prune?${query}`);
  expect(status).toBe(200);
  return json as { CachesDeleted: string[] | null; SpaceReclaimed: number };
}

const filters = (of: Readonly<Record<string, string[]>>): string => `filters=${encodeURIComponent(JSON.stringify(of))}`;

describe('the cache', () => {
  it('outlives image-service', async () => {
    const dockerfile = 'FROM BUSYBOX\nRUN echo kept > /kept\nCOPY file /\n';
    await mustBuild(dockerfile);
    const killed = await stack.host.kill('image-service');
    await stack.host.waitHealthy('image-service', killed);
    expect(cachedSteps(await mustBuild(dockerfile))).toBe(2);
  });

  it('does equal steps of builds side by side once', async () => {
    const dockerfile = 'FROM BUSYBOX\nRUN sleep 2; head -c 16 /dev/urandom > /random\n';
    await Promise.all([mustBuild(dockerfile, '-t', 'beside:1'), mustBuild(dockerfile, '-t', 'beside:2')]);
    expect(await inspected('beside:1', '{{.Id}}')).toBe(await inspected('beside:2', '{{.Id}}'));
    await stack.host.mustDocker('rmi', 'beside:1', 'beside:2');
  });

  it('is taken from images that --cache-from names, also where nothing was built', async () => {
    const dockerfile = 'FROM BUSYBOX\nRUN head -c 16 /dev/urandom > /random\nCMD ["true"]\n';
    const reference = `${stack.registry.address}/cache/from:1`;
    await mustBuild(dockerfile, '-t', reference);
    const layers = await inspected(reference, '{{json .RootFS.Layers}}');
    await stack.host.mustDocker('push', '-q', reference);
    await stack.host.mustDocker('rmi', reference);
    await stack.host.mustDocker('builder', 'prune', '-af');
    await stack.host.mustDocker('pull', '-q', reference);
    expect(cachedSteps(await mustBuild(dockerfile, '--cache-from', reference, '-t', 'from:again'))).toBe(2);
    expect(await inspected('from:again', '{{json .RootFS.Layers}}')).toBe(layers);
    // What it is not from is not used, though it is here.
    expect(cachedSteps(await mustBuild(dockerfile, '--cache-from', 'nosuch:tag'))).toBe(0);
    await stack.host.mustDocker('rmi', '-f', 'from:again', reference);
  });

  it('is pruned by its filters, and down to a size', async () => {
    await stack.host.mustDocker('builder', 'prune', '-af');
    await mustBuild(
      'FROM BUSYBOX\nRUN head -c 300000 /dev/zero > /a\nRUN head -c 200000 /dev/zero > /b\nRUN --mount=type=cache,target=/c echo x > /c/x\n',
    );
    const rows = await cache();
    const sizes = rows.map(({ Type, Size }) => `${Type} ${Size}`);
    expect(sizes.sort()).toEqual(['exec.cachemount 2', 'regular 0', 'regular 200000', 'regular 300000']);
    expect((await prune(filters({ until: ['1h'] }))).CachesDeleted ?? []).toEqual([]);
    expect((await prune(`all=1&${filters({ type: ['exec.cachemount'] })}`)).CachesDeleted).toHaveLength(1);
    expect((await cache()).map((row) => row.Type)).not.toContain('exec.cachemount');
    const kept = await prune('all=1&keep-storage=1000000');
    expect(kept.CachesDeleted ?? []).toEqual([]);
    // Limits that are kept already take nothing away.
    expect((await prune('all=1&max-used-space=1000000')).CachesDeleted ?? []).toEqual([]);
    expect((await prune('all=1&min-free-space=1')).CachesDeleted ?? []).toEqual([]);
    await prune('all=1&max-used-space=400000');
    expect((await cache()).reduce((sum, row) => sum + row.Size, 0)).toBeLessThanOrEqual(400_000);
    const { status, message } = await engineApi(stack.host, 'POST', `/v1.50/build/prune?${filters({ nonsense: ['x'] })}`);
    expect({ status, message }).toEqual({ status: 400, message: expect.stringContaining("invalid filter 'nonsense'") });
  });
});

describe('docker build', () => {
  it('asks for a newer base with --pull', async () => {
    const older = await stack.push(await busyboxImage({ config: { Labels: { age: 'older' } } }), 'moving/base');
    await stack.host.mustDocker('pull', '-q', older);
    await stack.push(await busyboxImage({ config: { Labels: { age: 'newer' } } }), 'moving/base');
    await mustBuild(`FROM ${older}\nLABEL own=1\n`, '-t', 'pulled:no');
    await mustBuild(`FROM ${older}\nLABEL own=1\n`, '--pull', '-t', 'pulled:yes');
    expect(await inspected('pulled:no', '{{.Config.Labels.age}}')).toBe('older');
    expect(await inspected('pulled:yes', '{{.Config.Labels.age}}')).toBe('newer');
    await stack.host.mustDocker('rmi', '-f', 'pulled:no', 'pulled:yes', older);
  });

  it('knows proxies without naming them in the image, and tells of arguments that nobody asked for', async () => {
    const proxy = ['--build-arg', 'HTTP_PROXY=http://user:secret@proxy.example'];
    const dockerfile = 'FROM BUSYBOX\nRUN echo "[$HTTP_PROXY]"\n';
    const first = await mustBuild(dockerfile, ...proxy, '--build-arg', 'NOBODY=1', '-t', 'proxied:1');
    expect(first).toContain('[http://user:secret@proxy.example]');
    expect(first).toContain('[Warning] One or more build-args [NOBODY] were not consumed\n');
    expect(await stack.host.mustDocker('history', '--no-trunc', 'proxied:1')).not.toContain('secret');
    // Another proxy gives the same image.
    expect(cachedSteps(await mustBuild(dockerfile, '--build-arg', 'HTTP_PROXY=http://other.example'))).toBe(1);
    await stack.host.mustDocker('rmi', 'proxied:1');
  });

  it('checks what ADD fetches against its --checksum', async () => {
    const { host } = stack;
    const served = join(host.filesDirectory, 'checksums');
    mkdirSync(served);
    writeFileSync(join(served, 'file'), 'served\n');
    const server = host.spawn('busybox', ['httpd', '-f', '-p', '127.0.0.1:8098', '-h', served]);
    try {
      const url = 'http://127.0.0.1:8098/file';
      await waitFor(async () => (await host.run('busybox', ['wget', '-qO', '/dev/null', url])).code === 0, { what: 'the server' });
      const add = (digest: string): string => `FROM BUSYBOX\nADD --checksum=sha256:${digest} ${url} /got\nRUN cat /got\n`;
      expect(await mustBuild(add(digestOf('served\n')))).toContain('served\n');
      const { code, stderr } = await build(add(digestOf('other\n')));
      expect(code).toBe(1);
      expect(stderr).toContain('digest mismatch');
    } finally {
      server.kill();
    }
  });

  it('copies with --link without looking below', async () => {
    const dockerfile = (flag: string): string =>
      `FROM BUSYBOX\nRUN mkdir /elsewhere && ln -s elsewhere /linked\nCOPY ${flag} file /linked/\nRUN find /linked/ /elsewhere -type f\n`;
    // The copy follows a link that is there already; a layer of its own puts a directory in its place.
    expect(await mustBuild(dockerfile(''))).toContain('/elsewhere/file\n');
    const linked = await mustBuild(dockerfile('--link'));
    expect(linked).toContain('/linked/file\n');
    expect(linked).not.toContain('/elsewhere/file\n');
  });

  it.each([
    ['FROM BUSYBOX\n\nRUN true && \\\n  exit 3\n', 3],
    ['FROM BUSYBOX\nLABEL a=b\nCOPY absent /\n', 3],
    ['FROM BUSYBOX\n# comment\nRUN true\nEXPOSE none\n', 4],
  ])('names the line of the step that fails: %j', async (dockerfile, line) => {
    const { code, stdout } = await build(dockerfile, '--force-rm');
    expect(code).not.toBe(0);
    expect(stdout).toContain(` ---> Failed at line ${line} of the Dockerfile\n`);
  });
});
