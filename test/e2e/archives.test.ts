/** Archives and registries between engines and tools: what we write they read, what they write we read, file by file. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildImage,
  buildTar,
  busyboxLayer,
  type LayerEntry,
  opaque,
  type TestHost,
  type TestImage,
  waitFor,
  whiteout,
  writeOciLayout,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { type FileTree, fileTree } from './fileTree.ts';
import { startDockerd } from './peer.ts';
import { useStack } from './stack.ts';

const stack = useStack();

const lower: LayerEntry[] = [
  ...busyboxLayer(),
  { path: 'kept/' },
  { path: 'kept/gone', content: 'x' },
  { path: 'opaque/' },
  { path: 'opaque/hidden', content: 'x' },
  { path: 'replaced', target: '/etc/passwd' },
];
const upper: LayerEntry[] = [
  { path: 'kept/' },
  whiteout('kept/gone'),
  { path: 'opaque/' },
  opaque('opaque'),
  { path: 'opaque/shown', content: 'x' },
  { path: 'replaced', content: 'a file now' },
  { path: 'owned', content: 'x', uid: 1000, gid: 50, mode: 0o4750 },
  { path: 'hard', type: 'link', target: 'owned' },
  { path: 'soft', target: 'kept/../nowhere' },
  { path: 'attributes', content: 'x', xattrs: { 'user.colour': 'blue' } },
  { path: 'pipe', type: 'fifo', mode: 0o600 },
  { path: 'device', type: 'character-device', device: { major: 1, minor: 3 }, mode: 0o666 },
  { path: `long-${'n'.repeat(250)}`, content: 'long' },
  { path: 'ünïcödé-名前', content: 'unicode' },
  { path: 'zeros', content: Buffer.alloc(3_000_000) },
];

let image: TestImage;
let name: string;
/** The image as umoci unpacks what the test made: what all others must be equal to. */
let expected: FileTree;
let turn = 0;

beforeAll(async () => {
  image = await buildImage({ layers: [lower, upper], format: 'oci', config: { Cmd: ['sh'], Env: ['A=b'], Labels: { l: 'x' } } });
  name = await stack.push(image, 'archives/rich');
  await stack.host.mustDocker('pull', '-q', name);
  const layout = file('source');
  writeOciLayout(layout, [{ image, tags: ['source'] }]);
  expected = await unpacked(`oci:${layout}:source`);
  expect(Object.keys(expected)).toEqual(expect.arrayContaining(['opaque/shown', 'hard', 'ünïcödé-名前']));
  expect(Object.keys(expected)).not.toEqual(expect.arrayContaining(['kept/gone']));
});

function file(base: string): string {
  return join(stack.host.filesDirectory, `${++turn}-${base}`);
}

/** Where skopeo finds an image, as the tree umoci makes of it. */
async function unpacked(source: string, host: TestHost = stack.host): Promise<FileTree> {
  const layout = file('layout');
  await host.mustRun('skopeo', ['copy', '-q', '--src-tls-verify=false', source, `oci:${layout}:image`]);
  const bundle = file('bundle');
  await host.mustRun('umoci', ['unpack', '--image', `${layout}:image`, bundle]);
  const tree = fileTree(join(bundle, 'rootfs'));
  rmSync(bundle, { recursive: true });
  return tree;
}

describe('registries', () => {
  it('get byte for byte what was pulled; skopeo reads it', async () => {
    const target = `${stack.registry.address}/archives/pushed:v1`;
    await stack.host.mustDocker('tag', name, target);
    const pushed = await stack.host.mustDocker('push', target);
    expect(pushed.split('\n').at(-1)).toBe(`v1: digest: ${image.manifestDescriptor.digest} size: ${image.manifest.length}`);
    expect(await unpacked(`docker://${target}`)).toEqual(expected);
    const raw = await stack.host.mustRun('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${target}`]);
    expect(raw.stdout).toBe(image.manifest.toString());
    const distribution = await engineApi(stack.host, 'GET', `/v1.50/distribution/${target}/json`);
    expect(distribution.json).toMatchObject({ Descriptor: { digest: image.manifestDescriptor.digest }, Platforms: [{ os: 'linux' }] });
  });

  it('give and take every tag with -a', async () => {
    const repository = `${stack.registry.address}/archives/all`;
    for (const tag of ['one', 'two', 'three']) await stack.host.mustDocker('tag', name, `${repository}:${tag}`);
    const pushed = await stack.host.mustDocker('push', '-a', repository);
    for (const tag of ['one', 'two', 'three']) expect(pushed).toContain(`${tag}: digest: ${image.manifestDescriptor.digest}`);
    await stack.host.mustDocker('rmi', `${repository}:one`, `${repository}:two`, `${repository}:three`);
    await stack.host.mustDocker('pull', '-a', repository);
    const tags = await stack.host.mustDocker('images', '--format', '{{.Tag}}', repository);
    expect(tags.split('\n').sort()).toEqual(['one', 'three', 'two']);
  });

  it('take what was made here, compressed, and give it back the same', async () => {
    const target = `${stack.registry.address}/archives/made:v1`;
    const archive = file('root.tar');
    writeFileSync(archive, await buildTar([{ path: 'made', content: 'here'.repeat(100_000) }]));
    const id = await stack.host.mustDocker('import', archive, target);
    await stack.host.mustDocker('push', target);
    const raw = JSON.parse((await stack.host.mustRun('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${target}`])).stdout);
    expect(raw.config.digest).toBe(id);
    expect(raw.layers[0].mediaType).toMatch(/gzip$/);
    await stack.host.mustDocker('rmi', target);
    await stack.host.mustDocker('pull', '-q', target);
    expect(await stack.host.mustDocker('images', '-q', '--no-trunc', target)).toBe(id);
  });
});

describe('docker save', () => {
  it('is read by skopeo, as a docker archive and as an OCI layout', async () => {
    const archive = file('saved.tar');
    await stack.host.mustDocker('save', '-o', archive, name);
    expect(await unpacked(`docker-archive:${archive}`)).toEqual(expected);
    const layout = file('extracted');
    mkdirSync(layout);
    execFileSync('tar', ['-xf', archive, '-C', layout]);
    expect(await unpacked(`oci:${layout}`)).toEqual(expected);
    // The manifest is the very one that was pulled.
    expect(JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')).manifests[0].digest).toBe(image.manifestDescriptor.digest);
  });

  it('takes several, by name and id, and shares their layers', async () => {
    await stack.host.mustDocker('tag', name, 'second:v1');
    const archive = file('several.tar');
    await stack.host.mustDocker('save', '-o', archive, name, 'second:v1', stack.busyboxImage.id);
    const manifest = JSON.parse(execFileSync('tar', ['-xOf', archive, 'manifest.json'], { encoding: 'utf8' }));
    expect(manifest.map((each: { RepoTags: string[] | null }) => each.RepoTags)).toEqual([[name, 'second:v1'], null]);
    const names = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trim().split('\n');
    expect(new Set(names).size).toBe(names.length);
    await stack.host.mustDocker('rmi', '-f', image.id);
    const loaded = await stack.host.mustDocker('load', '-i', archive);
    expect(loaded.split('\n')).toEqual([`Loaded image: ${name}`, 'Loaded image: second:v1', `Loaded image ID: ${stack.busyboxImage.id}`]);
    await stack.host.mustDocker('rmi', 'second:v1');
    // A digest names an image, and no tag of it.
    const [digest = ''] = JSON.parse(
      await stack.host.mustDocker('image', 'inspect', '--format', '{{json .RepoDigests}}', stack.busybox),
    ) as string[];
    await stack.host.mustDocker('save', '-o', archive, digest);
    expect(JSON.parse(execFileSync('tar', ['-xOf', archive, 'manifest.json'], { encoding: 'utf8' }))[0].RepoTags).toBeNull();
    expect((await stack.host.docker('save', 'no-such-image')).stderr).toContain('No such image: no-such-image:latest');
  });
});

describe('podman', () => {
  it('loads what we save, and we what it saves', async () => {
    const archive = file('saved.tar');
    await stack.host.mustDocker('save', '-o', archive, name);
    // podman wants short paths.
    const directory = mkdtempSync('/tmp/flotilla-podman-');
    stack.host.onDispose(() => rmSync(directory, { recursive: true, force: true }));
    const storage = ['--root', join(directory, 'root'), '--runroot', join(directory, 'run'), '--storage-driver', 'vfs'];
    await stack.host.mustRun('podman', [...storage, 'load', '-q', '-i', archive]);
    for (const format of ['docker-archive', 'oci-archive']) {
      const theirs = file(`${format}.tar`);
      await stack.host.mustRun('podman', [...storage, 'save', '-q', '--format', format, '-o', theirs, name]);
      await stack.host.mustDocker('rmi', '-f', image.id);
      expect(await stack.host.mustDocker('load', '-i', theirs)).toContain('Loaded image');
      const again = file('again.tar');
      await stack.host.mustDocker('save', '-o', again, name);
      expect(await unpacked(`docker-archive:${again}`)).toEqual(expected);
    }
  });
});

describe('dockerd', () => {
  let peer: TestHost;
  beforeAll(async () => {
    peer = await startDockerd();
  });
  afterAll(() => peer?.dispose());

  it('loads what we save, and we what it saves', async () => {
    const ours = file('ours.tar');
    await stack.host.mustDocker('save', '-o', ours, name);
    expect(await peer.mustDocker('load', '-q', '-i', ours)).toBe(`Loaded image: ${name}`);
    expect(await peer.mustDocker('images', '-q', '--no-trunc', name)).toBe(image.id);
    const theirs = file('theirs.tar');
    await peer.mustDocker('save', '-o', theirs, name);
    await stack.host.mustDocker('rmi', '-f', image.id);
    expect(await stack.host.mustDocker('load', '-q', '-i', theirs)).toBe(`Loaded image: ${name}`);
    expect(await stack.host.mustDocker('images', '-q', '--no-trunc', name)).toBe(image.id);
    const again = file('again.tar');
    await stack.host.mustDocker('save', '-o', again, name);
    expect(await unpacked(`docker-archive:${again}`)).toEqual(expected);
  });
});

describe('a container of it', () => {
  it('has the same tree', async () => {
    const id = await stack.host.mustDocker('run', '-d', name, 'sleep', '1000');
    const { MergedDir } = JSON.parse(await stack.host.mustDocker('inspect', '--format', '{{json .GraphDriver.Data}}', id));
    const program = join(import.meta.dirname, 'fileTree.ts');
    const { stdout } = await stack.host.mustRun(process.execPath, [program, MergedDir], { timeoutMs: 60_000 });
    const [seen = {}] = JSON.parse(stdout) as Record<string, FileTree[string]>[];
    for (const own of Object.keys(seen)) {
      // Mount points and files that every container gets.
      if (/^(dev|proc|sys|etc)(\/|$)|^\.dockerenv$/.test(own)) delete seen[own];
    }
    const rest = Object.entries(expected).filter(([path]) => !/^(dev|proc|sys|etc)(\/|$)/.test(path));
    expect(seen).toEqual(Object.fromEntries(rest));
    await stack.host.mustDocker('rm', '-f', id);
  });
});

describe('docker commit', () => {
  it('of nothing changed adds no layer, and tells what the container ran', async () => {
    const { host } = stack;
    const id = await host.mustDocker('run', '-d', '-w', '/', stack.busybox, 'test', '-e', '/.dockerenv');
    expect(await host.mustDocker('wait', id)).toBe('0');
    expect(await host.mustDocker('diff', id)).toBe('');
    const committed = await host.mustDocker('commit', '-c', 'CMD ["other"]', id);
    const layers = async (image: string): Promise<string> =>
      host.mustDocker('image', 'inspect', '--format', '{{json .RootFS.Layers}}', image);
    expect(await layers(committed)).toBe(await layers(stack.busybox));
    const history = await host.mustDocker('history', '--no-trunc', '--format', '{{.CreatedBy}} {{.Size}}', committed);
    expect(history.split('\n')[0]).toBe('test -e /.dockerenv 0B');
  });

  it('keeps links, attributes, holes and what was deleted', async () => {
    const id = await stack.host.mustDocker('run', '-d', name, 'sleep', '1000');
    const { MergedDir } = JSON.parse(await stack.host.mustDocker('inspect', '--format', '{{json .GraphDriver.Data}}', id));
    await stack.host.mustDocker(
      'exec',
      id,
      'sh',
      '-ec',
      `echo new > /new; ln /new /new-too; ln -s new /new-soft; chmod 4711 /new; rm /owned; rm -r /opaque; mkdir /opaque; echo fresh > /opaque/fresh;
      mkfifo /fifo; dd if=/dev/zero of=/sparse bs=1 count=1 seek=20000000 2>/dev/null; mkdir -p /a/b/c; chown 1000:50 /a/b`,
    );
    const setAttribute = `import('${join(import.meta.dirname, '../../packages/syscalls/src/index.ts')}').then(({ lsetxattr }) => lsetxattr(process.argv[1], 'user.new', 'value'))`;
    await stack.host.mustRun(process.execPath, ['-e', setAttribute, join(MergedDir, 'new')]);
    const committed = await stack.host.mustDocker(
      'commit',
      '-m',
      'why',
      '-a',
      'me',
      '-c',
      'CMD ["true"]',
      '-c',
      'ENV C=d',
      id,
      'committed:v1',
    );
    const [inspected] = JSON.parse(await stack.host.mustDocker('image', 'inspect', committed));
    expect(inspected).toMatchObject({
      RepoTags: ['committed:v1'],
      Parent: image.id,
      Author: 'me',
      Comment: 'why',
      Config: { Cmd: ['true'] },
    });
    expect(inspected.Config.Env).toEqual(expect.arrayContaining(['A=b', 'C=d']));
    const actions = async (): Promise<string[]> => {
      const now = String(Date.now() / 1000);
      const said = await stack.host.mustDocker(
        'events',
        '--since',
        '0',
        '--until',
        now,
        '-f',
        `container=${id}`,
        '--format',
        '{{.Action}}',
      );
      return said.split('\n').filter((action) => /pause|commit/.test(action));
    };
    expect(await actions()).toEqual(['pause', 'commit', 'unpause']);
    await stack.host.mustDocker('commit', '--pause=false', id);
    expect(await actions()).toEqual(['pause', 'commit', 'unpause', 'commit']);
    const archive = file('committed.tar');
    await stack.host.mustDocker('save', '-o', archive, 'committed:v1');
    const tree = await unpacked(`docker-archive:${archive}`);
    expect(tree.new).toMatchObject({ mode: '104711', xattrs: { 'user.new': Buffer.from('value').toString('hex') } });
    expect(tree['new-too']).toMatchObject({ sameAs: 'new' });
    expect(tree['new-soft']).toMatchObject({ content: 'new' });
    expect(tree['a/b']).toMatchObject({ owner: '1000:50' });
    expect(tree.owned).toBeUndefined();
    expect(tree.hard).toBeDefined();
    expect(Object.keys(tree).filter((path) => path.startsWith('opaque/'))).toEqual(['opaque/fresh']);
    const { UpperDir } = inspected.GraphDriver.Data;
    const blocks = execFileSync('stat', ['-c', '%s %b', join(UpperDir, 'sparse')], { encoding: 'utf8' })
      .trim()
      .split(' ')
      .map(Number);
    expect(blocks[0]).toBe(20_000_001);
    expect((blocks[1] ?? 0) * 512).toBeLessThan(1_000_000);
    await stack.host.mustDocker('rm', '-f', id);
  });
});

describe('docker export and import', () => {
  it('go round, with changes, message and platform', async () => {
    const id = await stack.host.mustDocker('create', name);
    const archive = file('exported.tar');
    await stack.host.mustDocker('export', '-o', archive, id);
    await stack.host.mustDocker('rm', id);
    const imported = await stack.host.mustDocker(
      'import',
      '--change',
      'CMD ["cat", "/replaced"]',
      '--change',
      'ENV X="1 2"',
      '-m',
      'by hand',
      '--platform',
      'linux/arm/v7',
      archive,
      'imported:v1',
    );
    const [inspected] = JSON.parse(await stack.host.mustDocker('image', 'inspect', 'imported:v1'));
    expect(inspected).toMatchObject({ Id: imported, Comment: 'by hand', Os: 'linux', Architecture: 'arm', Variant: 'v7' });
    expect(inspected.Config).toMatchObject({ Cmd: ['cat', '/replaced'], Env: ['X=1 2'] });
    const own = await stack.host.mustDocker('import', '--change', 'CMD ["cat", "/replaced"]', archive);
    expect(await stack.host.mustDocker('run', '--rm', own)).toBe('a file now');
    const saved = file('imported.tar');
    await stack.host.mustDocker('save', '-o', saved, own);
    const tree = await unpacked(`docker-archive:${saved}`);
    for (const path of ['owned', 'soft', 'pipe', 'device', 'ünïcödé-名前', 'zeros', 'attributes']) {
      expect({ path, ...tree[path], sameAs: '', xattrs: {} }).toEqual({ path, ...expected[path], sameAs: '', xattrs: {} });
    }
    expect(tree.hard?.sameAs).toBe('hard');
    expect(tree.owned?.sameAs).toBe('hard');
    expect((await stack.host.docker('import', '--change', 'RUN x', archive)).stderr).toContain('run is not a valid change command');
  });

  it('takes an archive from the web', async () => {
    const path = file('web.tar');
    writeFileSync(path, await buildTar([{ path: 'from-the-web', content: 'yes' }]));
    // The gateway lives in the test host's network: the server has to, too.
    const script = `require('http').createServer((q, r) => { const ok = q.url === '/root.tar'; r.statusCode = ok ? 200 : 404; r.end(ok ? require('fs').readFileSync(process.argv[1]) : ''); }).listen(8099, '127.0.0.1')`;
    const child = stack.host.spawn(process.execPath, ['-e', script, path]);
    try {
      await waitFor(async () => (await stack.host.run('curl', ['-sf', '-o', '/dev/null', 'http://127.0.0.1:8099/root.tar'])).code === 0, {
        what: 'the web server',
      });
      const id = await stack.host.mustDocker('import', 'http://127.0.0.1:8099/root.tar', 'web:v1');
      expect(id.split('\n').at(-1)).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(await stack.host.mustDocker('images', '-q', '--no-trunc', 'web:v1')).toBe(id.split('\n').at(-1));
      expect((await stack.host.docker('import', 'http://127.0.0.1:8099/none.tar')).code).toBe(1);
    } finally {
      child.kill();
    }
  });
});
