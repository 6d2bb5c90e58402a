import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  buildIndex,
  busyboxImage,
  busyboxLayer,
  dockerArchive,
  type LayerEntry,
  ociArchive,
  randomBytesOf,
  whiteout,
} from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();

describe('docker version and info', () => {
  it('tell who serves', async () => {
    const version = JSON.parse(await stack.host.mustDocker('version', '--format', '{{json .Server}}'));
    expect(version.Platform.Name).toMatch(/^Flotilla/);
    expect(version.Version).toMatch(/^\d+\.\d+.*flotilla/);
    expect(version).toMatchObject({ ApiVersion: '1.50', MinAPIVersion: '1.24', Os: 'linux' });
    expect(version.Components.length).toBeGreaterThan(1);
    expect((await stack.host.docker('version')).code).toBe(0);
  });

  it('count what is there', async () => {
    const info = JSON.parse(await stack.host.mustDocker('info', '--format', '{{json .}}'));
    expect(info).toMatchObject({ Driver: 'overlay2', OSType: 'linux', Containers: 0, Images: 1 });
    expect(info.NCPU).toBeGreaterThan(0);
    expect(info.MemTotal).toBeGreaterThan(1_000_000);
    const plain = await stack.host.docker('info');
    expect(plain.code).toBe(0);
    expect(plain.stdout).toContain('Server:');
    expect(plain.stdout).toContain('Storage Driver: overlay2');
  });
});

describe('docker pull', () => {
  it('downloads an image and says so, then finds it up to date', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'new', content: 'x' }]] });
    const reference = await stack.push(image, 'pull/first');
    const first = await stack.host.docker('pull', reference);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const tail = first.stdout.trimEnd().split('\n').slice(-3);
    expect(tail).toEqual([`Digest: ${image.manifestDescriptor.digest}`, `Status: Downloaded newer image for ${reference}`, reference]);
    expect(first.stdout).toMatch(/^latest: Pulling from pull\/first$/m);
    expect(first.stdout).toMatch(/^[0-9a-f]{12}: Pull complete$/m);
    expect((await stack.host.docker('pull', reference)).stdout).toContain(`Status: Image is up to date for ${reference}`);
  });

  it('takes a tag that moved', async () => {
    const older = await busyboxImage({ layers: [[{ path: 'version', content: '1' }]] });
    const newer = await busyboxImage({ layers: [[{ path: 'version', content: '2' }]] });
    const reference = await stack.push(older, 'pull/moving');
    await stack.host.mustDocker('pull', reference);
    await stack.push(newer, 'pull/moving');
    expect(await stack.host.mustDocker('pull', reference)).toContain(`Status: Downloaded newer image for ${reference}`);
    expect(await stack.host.mustDocker('run', '--rm', reference, 'cat', '/version')).toBe('2');
    expect(await stack.host.mustDocker('images', '--format', '{{.Repository}} {{.Tag}}', '--no-trunc', '-f', 'dangling=true')).toContain(
      'pull/moving <none>',
    );
  });

  it('by digest', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'digest', content: 'd' }]] });
    await stack.push(image, 'pull/digest');
    const reference = `${stack.registry.address}/pull/digest@${image.manifestDescriptor.digest}`;
    const pulled = await stack.host.docker('pull', reference);
    expect(pulled.stdout).toContain(`Status: Downloaded newer image for ${reference}`);
    expect(JSON.parse(await stack.host.mustDocker('image', 'inspect', reference))[0]).toMatchObject({
      Id: image.id,
      RepoTags: [],
      RepoDigests: [reference],
    });
    expect(await stack.host.mustDocker('run', '--rm', reference, 'cat', '/digest')).toBe('d');
  });

  it('of a missing image fails in the words of dockerd', async () => {
    const missing = await stack.host.docker('pull', `${stack.registry.address}/no/such`);
    expect(missing.code).toBe(1);
    expect(missing.stderr.trim()).toBe(
      `Error response from daemon: manifest for ${stack.registry.address}/no/such:latest not found: manifest unknown: manifest unknown`,
    );
  });

  it('shows progress while it downloads', async () => {
    const big = await busyboxImage({ layers: [[{ path: 'big', content: randomBytesOf(24 * 1024 * 1024) }]] });
    await stack.push(big, 'pull/big');
    const answer = await engineApi(stack.host, 'POST', `/v1.50/images/create?fromImage=${stack.registry.address}/pull/big&tag=latest`);
    expect(answer.status).toBe(200);
    const lines = answer.text
      .trim()
      .split(/\r?\n/)
      .map((line) => JSON.parse(line));
    const downloads = lines.filter((line) => line.status === 'Downloading' && line.progressDetail?.total > 1_000_000);
    expect(downloads.length).toBeGreaterThan(1);
    const current = downloads.map((line) => line.progressDetail.current);
    expect(current).toEqual([...current].sort((a, b) => a - b));
    expect(lines.map((line) => line.status)).toEqual(expect.arrayContaining(['Pulling fs layer', 'Download complete', 'Pull complete']));
    expect(lines.some((line) => line.status === 'Extracting' && line.progressDetail?.current > 0)).toBe(true);
  });

  it('picks the platform of this machine from an index', async () => {
    const own = await busyboxImage({ layers: [[{ path: 'own', content: 'yes' }]], format: 'oci' });
    const other = await busyboxImage({ layers: [[{ path: 'own', content: 'no' }]], format: 'oci', architecture: 's390x' });
    const reference = await stack.push(buildIndex([other, own]), 'pull/index');
    await stack.host.mustDocker('pull', reference);
    expect(await stack.host.mustDocker('run', '--rm', reference, 'cat', '/own')).toBe('yes');
  });

  for (const compression of ['gzip', 'zstd', 'none'] as const) {
    it(`of layers compressed by ${compression}`, async () => {
      const image = await busyboxImage({ layers: [[{ path: 'how', content: compression }]], compression, format: 'oci' });
      const reference = await stack.push(image, `pull/${compression}`);
      await stack.host.mustDocker('pull', reference);
      expect(await stack.host.mustDocker('run', '--rm', reference, 'cat', '/how')).toBe(compression);
    });
  }

  it('applies whiteouts, owners, modes and links', async () => {
    const image = await busyboxImage({
      layers: [
        [
          { path: 'gone', content: 'x' },
          { path: 'dir/' },
          { path: 'dir/hidden', content: 'x' },
          { path: 'owned', content: 'x', uid: 1000, gid: 50, mode: 0o4640 },
          { path: 'link', target: 'owned' },
          { path: 'hard', type: 'link', target: 'owned' },
          { path: 'pipe', type: 'fifo' },
        ],
        [whiteout('gone'), { path: 'dir/.wh..wh..opq', content: '' }, { path: 'dir/shown', content: 'x' }],
      ],
    });
    const reference = await stack.push(image, 'pull/whiteouts');
    const seen = await stack.host.mustDocker(
      'run',
      '--rm',
      reference,
      'sh',
      '-c',
      'ls -a / | grep gone; ls dir; stat -c "%a %u %g %h" owned; readlink link; test -p pipe && echo pipe',
    );
    expect(seen.split('\n')).toEqual(['shown', '4640 1000 50 2', 'owned', 'pipe']);
  });

  it('asks the registry for each blob once when several clients pull at once', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'shared', content: randomBytesOf(4 * 1024 * 1024, 'once') }]] });
    const reference = await stack.push(image, 'pull/once');
    const before = stack.registry.requests().length;
    const pulls = await Promise.all([1, 2, 3, 4].map(() => stack.host.docker('pull', reference)));
    expect(pulls.map((pull) => pull.code)).toEqual([0, 0, 0, 0]);
    const layer = image.layers[1]?.digest ?? '';
    expect(
      stack.registry
        .requests()
        .slice(before)
        .filter((one) => one.method === 'GET' && one.path.endsWith(`/blobs/${layer}`)),
    ).toHaveLength(1);
  });
});

describe('images on the host', () => {
  it('are listed and inspected', async () => {
    const listing = await stack.host.mustDocker('images', stack.busybox);
    expect(listing.split('\n')[0]).toMatch(/^REPOSITORY\s+TAG\s+IMAGE ID\s+CREATED\s+SIZE$/);
    expect(listing).toContain(stack.busyboxImage.id.slice(7, 19));
    expect(await stack.host.mustDocker('images', '-q', '--no-trunc', stack.busybox)).toBe(stack.busyboxImage.id);
    expect(await stack.host.mustDocker('images', '--digests', '--format', '{{.Digest}}', `${stack.registry.address}/busybox`)).toBe(
      stack.busyboxImage.manifestDescriptor.digest,
    );
    const [inspected] = JSON.parse(await stack.host.mustDocker('image', 'inspect', stack.busybox));
    expect(inspected).toMatchObject({
      Id: stack.busyboxImage.id,
      RepoTags: [stack.busybox],
      RepoDigests: [`${stack.registry.address}/busybox@${stack.busyboxImage.manifestDescriptor.digest}`],
      Os: 'linux',
      Config: { Cmd: ['sh'] },
      RootFS: { Type: 'layers', Layers: stack.busyboxImage.layers.map((layer) => layer.diffId) },
    });
    expect(inspected.Size).toBeGreaterThan(1_000_000);
    expect(Date.parse(inspected.Created)).toBe(Date.parse('2024-01-01T00:00:00Z'));
  });

  it('that are missing: dockerd says "No such image"', async () => {
    const missing = await stack.host.docker('image', 'inspect', 'nosuch');
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/No such image: nosuch/);
  });

  it('get tags and lose them', async () => {
    await stack.host.mustDocker('tag', stack.busybox, 'mine/box:v1');
    await stack.host.mustDocker('tag', 'mine/box:v1', 'mine/box:v2');
    expect(await stack.host.mustDocker('images', '--format', '{{.Tag}}', 'mine/box')).toBe('v1\nv2');
    expect(await stack.host.mustDocker('rmi', 'mine/box:v1')).toBe('Untagged: mine/box:v1');
    expect(await stack.host.mustDocker('rmi', 'mine/box:v2')).toBe('Untagged: mine/box:v2');
    expect((await stack.host.docker('rmi', 'mine/box:v2')).stderr).toContain('No such image: mine/box:v2');
    expect((await stack.host.docker('tag', 'nosuch', 'mine/box')).stderr).toContain('No such image: nosuch:latest');
  });

  it('are deleted with their last tag, layer by layer', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'own-layer', content: 'x' }]] });
    const reference = await stack.push(image, 'images/deleted');
    await stack.host.mustDocker('pull', reference);
    const removed = (await stack.host.mustDocker('rmi', reference)).split('\n');
    expect(removed.slice(0, 3)).toEqual([
      `Untagged: ${reference}`,
      `Untagged: ${stack.registry.address}/images/deleted@${image.manifestDescriptor.digest}`,
      `Deleted: ${image.id}`,
    ]);
    expect(removed[3]).toMatch(/^Deleted: sha256:[0-9a-f]{64}$/);
    // busybox's layer is shared and stays.
    expect(removed).toHaveLength(4);
  });

  it('in use by a container are kept', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'used', content: 'x' }]] });
    const reference = await stack.push(image, 'images/used');
    const id = await stack.host.mustDocker('run', '-d', reference, 'sleep', '1000');
    const refused = await stack.host.docker('rmi', reference);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(
      `conflict: unable to remove repository reference "${reference}" (must force) - container ${id.slice(0, 12)} is using its referenced image ${image.id.slice(7, 19)}`,
    );
    const byId = await stack.host.docker('rmi', '-f', image.id);
    expect(byId.stderr).toContain(`(cannot be forced) - image is being used by running container ${id.slice(0, 12)}`);
    await stack.host.mustDocker('rm', '-f', id);
    await stack.host.mustDocker('rmi', reference);
  });
});

describe('docker load', () => {
  /** busybox and one file in one layer: it shares no layer with what stays, so nothing of it may. */
  const ownImage = (file: LayerEntry, format: 'docker' | 'oci' = 'docker') =>
    buildImage({ layers: [[...busyboxLayer(), file]], format, config: { Cmd: ['sh'] } });

  it('reads what docker save writes', async () => {
    const image = await ownImage({ path: 'loaded', content: 'yes' });
    const path = join(stack.host.filesDirectory, 'image.tar');
    writeFileSync(path, await dockerArchive([{ image, tags: ['loaded/archive:one', 'loaded/archive:two'] }]));
    const loaded = await stack.host.mustDocker('load', '-i', path);
    expect(loaded).toContain('Loaded image: loaded/archive:one');
    expect(loaded).toContain('Loaded image: loaded/archive:two');
    expect(await stack.host.mustDocker('images', '-q', '--no-trunc', 'loaded/archive:one')).toBe(image.id);
    expect(await stack.host.mustDocker('run', '--rm', 'loaded/archive:two', 'cat', '/loaded')).toBe('yes');
  });

  it('reads an image without a name, from stdin, compressed', async () => {
    const image = await ownImage({ path: 'nameless', content: 'yes' });
    const path = join(stack.host.filesDirectory, 'nameless.tar');
    writeFileSync(path, await dockerArchive([{ image, tags: [] }]));
    for (const compress of ['gzip', 'xz', 'bzip2', 'zstd']) {
      const packed = await stack.host.run(compress, ['-1', '-c', path]);
      const loaded = await stack.host.dockerWith({ input: packed.stdoutBytes }, 'load');
      expect(loaded).toMatchObject({ code: 0 });
      expect(loaded.stdout).toContain(`Loaded image ID: ${image.id}`);
    }
  });

  it('reads an OCI layout', async () => {
    const image = await ownImage({ path: 'oci', content: 'yes' }, 'oci');
    const path = join(stack.host.filesDirectory, 'oci.tar');
    writeFileSync(path, await ociArchive([{ image, tags: ['docker.io/loaded/oci:latest'] }]));
    expect(await stack.host.mustDocker('load', '-i', path)).toContain('Loaded image: loaded/oci:latest');
    expect(await stack.host.mustDocker('run', '--rm', 'loaded/oci', 'cat', '/oci')).toBe('yes');
  });
});
