/** A small disk: what does not fit fails with a clear message and leaves a sound store; thresholds keep room; `flotilla doctor --disk` mends. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  busyboxImage,
  createTestHost,
  dockerArchive,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestHost,
  type TestImage,
  waitFor,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const megabyte = 1024 * 1024;
/** The store leaves 256 MiB of any disk to others. */
const diskBytes = 352 * megabyte;

let host: TestHost;
let images: string;
let registry: string;
let base: string;
let large: TestImage;

beforeAll(async () => {
  host = await createTestHost();
  images = join(host.dataRoot, 'image-service');
  await host.sh(`mkdir -m 711 ${images}; mount -t tmpfs -o mode=711,size=${diskBytes} tmpfs ${images}`);
  const started = await startRegistry({ place: host, port: 5000 });
  host.onDispose(() => started.stop());
  registry = started.address;
  base = `${registry}/base:latest`;
  await pushImage(await busyboxImage(), { address: registry, repository: 'base', tag: 'latest' }, host);
  // Small to fetch, too large to unpack.
  large = await buildImage({ layers: [[{ path: 'small', content: 'small' }], [{ path: 'zeros', content: Buffer.alloc(100 * megabyte) }]] });
  await pushImage(large, { address: registry, repository: 'large', tag: 'latest' }, host);
  await host.startStack({ args: ['--image-gc-high', '12', '--image-gc-low', '10'] });
  // In use: never to be taken away for want of room.
  await host.mustDocker('run', '-d', '--name', 'kept', base, 'sleep', '1000');
}, 240_000);

afterAll(async () => {
  await host?.docker('rm', '-f', 'kept');
  await host?.flotilla('down').catch(() => {});
  await host?.dispose();
}, 60_000);

interface Finding {
  readonly state: string;
  readonly what: string;
  readonly detail: string;
}

async function doctor(...args: string[]): Promise<{ code: number; findings: Finding[] }> {
  const roots = ['--data-root', host.dataRoot, '--exec-root', host.execRoot];
  const words = [join(import.meta.dirname, '../../deploy/flotilla'), 'doctor', ...roots, '--disk', '--json', ...args];
  const { code, stdout } = await host.run('sh', words, { timeoutMs: 180_000 });
  return { code, findings: JSON.parse(stdout) as Finding[] };
}

async function expectSound(): Promise<void> {
  const { code, findings } = await doctor();
  expect({ code, states: new Set(findings.map((finding) => finding.state)) }).toEqual({ code: 0, states: new Set(['ok']) });
  expect(await host.mustDocker('run', '--rm', base, 'echo', 'works')).toBe('works');
}

async function usedBytes(): Promise<number> {
  return Number((await host.sh(`df -B1 --output=used ${images} | tail -1`)).trim());
}

describe('what does not fit on the disk', () => {
  it('is not pulled, and says so', async () => {
    const { code, stderr } = await host.docker('pull', '-q', `${registry}/large`);
    expect(code).toBe(1);
    expect(stderr).toContain('no space left on device');
    expect(await host.mustDocker('images', '-q', `${registry}/large`)).toBe('');
    await expectSound();
  }, 300_000);

  it('is not loaded', async () => {
    const archive = join(host.filesDirectory, 'large.tar');
    writeFileSync(archive, await dockerArchive([{ image: large, tags: ['large:loaded'] }]));
    const { code, stdout, stderr } = await host.docker('load', '-i', archive);
    expect(code, stdout).toBe(1);
    expect(stderr + stdout).toContain('no space left on device');
    await expectSound();
  }, 300_000);

  it('is not built, while what fits is', async () => {
    const build = (dockerfile: string) =>
      host.run('sh', ['-c', `printf '${dockerfile}' | docker build --network none -`], {
        env: { ...host.dockerEnvironment, DOCKER_BUILDKIT: '0' },
        timeoutMs: 60_000,
      });
    const failed = await build(`FROM ${base}\\nRUN dd if=/dev/zero of=/zeros bs=1M count=${diskBytes / megabyte}\\n`);
    expect(failed.code).not.toBe(0);
    expect(failed.stdout + failed.stderr).toContain('No space left on device');
    await host.sh('docker ps -aq --filter status=exited | xargs -r docker rm', { env: host.dockerEnvironment });
    expect((await build(`FROM ${base}\\nRUN echo fits > /small\\n`)).code).toBe(0);
    await expectSound();
  }, 300_000);
});

describe('thresholds', () => {
  it('take the least recently used images that no container uses', async () => {
    const names: string[] = [];
    for (const index of [1, 2, 3]) {
      const image = await buildImage({ layers: [[{ path: 'file', content: randomBytesOf(7 * megabyte, `small${index}`) }]] });
      await pushImage(image, { address: registry, repository: `small${index}`, tag: 'latest' }, host);
      names.push(`${registry}/small${index}`);
      await host.mustDocker('pull', '-q', `${registry}/small${index}`);
      if (index === 2) await host.mustDocker('tag', `${registry}/small1`, 'again:1');
    }
    // 2 and 3 are younger than the new name of 1; 2 has to go first.
    await waitFor(async () => (await host.mustDocker('images', '-q', names[1] ?? '')) === '', {
      timeoutMs: 30_000,
      what: 'an image to go',
    });
    expect(await usedBytes()).toBeLessThan(0.12 * diskBytes);
    expect(await host.mustDocker('images', '-q', base)).not.toBe('');
    expect(await host.mustDocker('images', '-q', names[2] ?? '')).not.toBe('');
    await expectSound();
  }, 300_000);
});

describe('flotilla doctor --disk', () => {
  it('finds damage, says what mends it, and mends it', async () => {
    const image = await buildImage({ layers: [[{ path: 'checked', content: 'sound' }]] });
    await pushImage(image, { address: registry, repository: 'checked', tag: 'latest' }, host);
    await host.mustDocker('pull', '-q', `${registry}/checked`);
    const digest = image.layers[0]?.digest ?? '';
    await host.sh(`echo damaged > ${images}/blobs/${digest.replace(':', '/')}`);
    const found = await doctor();
    expect(found.code).toBe(1);
    expect(found.findings.find((finding) => finding.what === `blob ${digest}`)).toMatchObject({ state: 'missing' });
    await doctor('--repair');
    await host.mustDocker('pull', '-q', `${registry}/checked`);
    await expectSound();
  }, 300_000);
});
