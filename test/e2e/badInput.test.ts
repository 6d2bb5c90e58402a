import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  assembleImage,
  buildImage,
  buildLayer,
  buildTar,
  busyboxImage,
  busyboxLayer,
  dockerArchive,
  escapeName,
  everyKind,
  type LayerEntry,
  Random,
  type StaticRegistry,
  sha256,
  spoiledTar,
  startStaticRegistry,
  strayNames,
} from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack();

describe('requests that cannot be right', () => {
  const create = (body: unknown, query = '') => engineApi(stack.host, 'POST', `/v1.50/containers/create${query}`, { body });
  const image = () => stack.busybox;

  it('malformed JSON: 400 with a message', async () => {
    for (const body of ['{', '{"Image": ', 'nonsense', '[]', '"text"', '{"Image":"x"}trailing', '\u0000']) {
      const answer = await create(body);
      expect({ body, status: answer.status }).toEqual({ body, status: 400 });
      expect(answer.message).not.toBe('');
      expect(answer.headers['content-type']).toBe('application/json');
    }
  });

  it('wrong types of fields: 400 with a message', async () => {
    const bodies = [
      { Image: 5 },
      { Image: image(), Cmd: { a: 1 } },
      { Image: image(), Env: 'A=B' },
      { Image: image(), Tty: 'yes' },
      { Image: image(), HostConfig: 'x' },
      { Image: image(), HostConfig: { Memory: 'lots' } },
      { Image: image(), HostConfig: { Binds: { a: 'b' } } },
      { Image: image(), HostConfig: { PortBindings: [] } },
      { Image: image(), Labels: ['a'] },
      { Image: image(), ExposedPorts: 'x' },
      { Image: image(), NetworkingConfig: { EndpointsConfig: [] } },
    ];
    for (const body of bodies) {
      const answer = await create(body);
      expect({ body, status: answer.status }).toEqual({ body, status: 400 });
      expect(answer.message).not.toBe('');
    }
  });

  it('absurd sizes: 400 with a message', async () => {
    const hostConfigs = [
      { Memory: 1 },
      { Memory: -5 },
      { Memory: 2 ** 52, MemorySwap: 1024 },
      { NanoCpus: 1e15 },
      { CpuQuota: 1, CpuPeriod: 1 },
      { ShmSize: -1 },
      { OomScoreAdj: 99_999 },
      { CpuPeriod: 5 },
      { CpusetCpus: '0-999999' },
    ];
    for (const HostConfig of hostConfigs) {
      const answer = await create({ Image: image(), HostConfig });
      expect({ HostConfig, status: answer.status }).toEqual({ HostConfig, status: 400 });
      expect(answer.message).not.toBe('');
    }
    expect((await create(`{"Image":"${'x'.repeat(5 * 1024 * 1024)}"}`)).status).toBeGreaterThanOrEqual(400);
    expect((await create(`{"Image":${'['.repeat(100_000)}`)).status).toBe(400);
  });

  it('names with a way out: 400 with a message', async () => {
    for (const name of ['../x', '..', 'a/b', '/a/b', '.hidden', '-x', 'a b', 'a\n', 'é', `a${'\u0000'}`]) {
      const answer = await create({ Image: image() }, `?name=${encodeURIComponent(name)}`);
      expect({ name, status: answer.status }).toEqual({ name, status: 400 });
      expect(answer.message).toContain('Invalid container name');
    }
    for (const name of ['../x', '..', 'a/b', '/etc']) {
      const answer = await engineApi(stack.host, 'POST', '/v1.50/volumes/create', { body: { Name: name } });
      expect({ name, status: answer.status }).toEqual({ name, status: 400 });
      expect(answer.message).toContain('includes invalid characters for a local volume name');
    }
    for (const target of ['relative', '../up', '/', '/x/..']) {
      const answer = await create({ Image: image(), HostConfig: { Binds: [`/tmp:${target}`] } });
      expect({ target, status: answer.status }).toEqual({ target, status: 400 });
    }
  });

  it('paths and ids that lead nowhere: 404, in JSON', async () => {
    const paths = [
      '/v1.50/containers/..%2f..%2fetc/json',
      '/v1.50/containers/%2e%2e/json',
      '/v1.50/volumes/..%2f..%2fetc',
      '/v1.50/nosuch',
      '/nosuch',
    ];
    for (const path of paths) {
      const answer = await engineApi(stack.host, 'GET', path);
      expect({ path, status: answer.status, refused: [400, 404].includes(answer.status) }).toEqual({
        path,
        status: answer.status,
        refused: true,
      });
      expect(answer.message).not.toBe('');
    }
    expect((await engineApi(stack.host, 'GET', '/v1.50/nosuch')).message).toBe('page not found');
    // dockerd's router answers an unclean path with the clean one, which then leads nowhere.
    const unclean = await engineApi(stack.host, 'GET', '/v1.50/images/../../etc/passwd/json');
    expect(unclean).toMatchObject({ status: 301, headers: { location: '/etc/passwd/json' } });
    expect((await engineApi(stack.host, 'GET', '/etc/passwd/json')).status).toBe(404);
  });

  it('versions too new, too old, or none at all', async () => {
    expect(await engineApi(stack.host, 'GET', '/v1.99/version')).toMatchObject({
      status: 400,
      message: 'client version 1.99 is too new. Maximum supported API version is 1.50',
    });
    const old = await engineApi(stack.host, 'GET', '/v1.12/version');
    expect(old).toMatchObject({ status: 400 });
    expect(old.message).toContain('client version 1.12 is too old. Minimum supported API version is 1.24');
    for (const prefix of ['', '/v1.24', '/v1.41', '/v1.50'])
      expect((await engineApi(stack.host, 'GET', `${prefix}/version`)).status).toBe(200);
  });

  it('bad queries: 400 with a message', async () => {
    const paths = [
      '/v1.50/containers/json?filters=nonsense',
      '/v1.50/containers/json?filters={"status":"running"}',
      '/v1.50/containers/json?filters={"nosuch":["x"]}',
      '/v1.50/containers/json?limit=many',
      '/v1.50/images/json?filters=[]',
      '/v1.50/events?since=yesterday',
      '/v1.50/volumes?filters={"nosuch":["x"]}',
    ];
    for (const path of paths) {
      const answer = await engineApi(stack.host, 'GET', encodeURI(path), { timeoutMs: 5_000 });
      expect({ path, status: answer.status }).toEqual({ path, status: 400 });
      expect(answer.message).not.toBe('');
    }
  });

  it('leave nothing behind', async () => {
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe('');
    expect(existsSync('/x') || existsSync(join(stack.host.dataRoot, 'x'))).toBe(false);
  });
});

describe('a registry that lies', () => {
  let registry: StaticRegistry;
  beforeAll(async () => {
    registry = await startStaticRegistry({ place: stack.host });
  });
  afterAll(() => registry.stop());

  const pull = (repository: string) => stack.host.docker('pull', `${registry.address}/${repository}:latest`);

  it('serves an honest image as a control', async () => {
    registry.add('honest', 'latest', await busyboxImage());
    expect(await pull('honest')).toMatchObject({ code: 0 });
  });

  it('about a layer: the pull fails and says so', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: 'true' }]] });
    const other = await buildLayer([{ path: 'evil', content: 'swapped' }]);
    registry.add('layer', 'latest', image, (digest, bytes) => (digest === image.layers[1]?.digest ? other.bytes : bytes));
    const result = await pull('layer');
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/filesystem layer verification failed for digest|digest|verif|unexpected/i);
    expect((await stack.host.docker('image', 'inspect', `${registry.address}/layer`)).code).toBe(1);
  });

  it('about a layer of the same size: the pull fails', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: 'bits' }]] });
    registry.add('bits', 'latest', image, (digest, bytes) => {
      if (digest !== image.layers[1]?.digest) return bytes;
      const damaged = Buffer.from(bytes);
      damaged[damaged.length - 1] = (damaged[damaged.length - 1] ?? 0) ^ 1;
      return damaged;
    });
    expect((await pull('bits')).code).toBe(1);
  });

  it('about the config: the pull fails', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: 'config' }]] });
    registry.add('config', 'latest', image, (digest, bytes) =>
      digest === image.id ? Buffer.from(bytes.toString().replace('"sh"', '"id"')) : bytes,
    );
    const result = await pull('config');
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/verif|digest/i);
  });

  it('about the diffID of a layer: the pull fails', async () => {
    const honest = await buildLayer([{ path: 'a', content: '1' }]);
    const base = await buildLayer(busyboxLayer());
    registry.add('diffid', 'latest', assembleImage([base, { ...honest, diffId: sha256('something else') }]));
    const result = await pull('diffid');
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/diff|digest|layer/i);
  });

  it('about a manifest asked for by digest: the pull fails', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: 'manifest' }]] });
    registry.add('manifest', 'latest', image, (digest, bytes) =>
      digest === image.manifestDescriptor.digest ? Buffer.concat([bytes, Buffer.from(' ')]) : bytes,
    );
    const result = await stack.host.docker('pull', `${registry.address}/manifest@${image.manifestDescriptor.digest}`);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/verif|digest/i);
  });

  it('with manifests that are none: the pull fails', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: 'none' }]] });
    for (const [name, content] of Object.entries({
      empty: '',
      text: 'hello',
      array: '[]',
      number: '5',
      hollow: '{}',
      deep: `${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}`,
    })) {
      registry.add(`bad-${name}`, 'latest', image, (digest, bytes) =>
        digest === image.manifestDescriptor.digest ? Buffer.from(content) : bytes,
      );
      const result = await pull(`bad-${name}`);
      expect({ name, code: result.code }).toEqual({ name, code: 1 });
      expect(result.stderr).toContain('Error');
    }
  });

  it('and breaks off: the pull goes on by range', async () => {
    const image = await busyboxImage({ layers: [[{ path: 'a', content: Buffer.alloc(3_000_000, 'resume me ') }]], compression: 'none' });
    registry.add('broken', 'latest', image);
    registry.misbehave([{ path: `/blobs/${image.layers[1]?.digest}`, cutAfterBytes: 1_000_000, times: 1 }]);
    expect(await pull('broken')).toMatchObject({ code: 0 });
    registry.misbehave([]);
    expect(
      registry
        .requests()
        .some(
          (request) =>
            request.path.includes(image.layers[1]?.digest ?? '') && request.range !== undefined && /^bytes=[1-9]/.test(request.range),
        ),
    ).toBe(true);
  });
});

describe('archives with a way out', () => {
  const outside = () => join(stack.host.directory, 'escaped');
  const ways: Readonly<Record<string, () => readonly LayerEntry[]>> = {
    'dots in the path': () => [{ path: '../../../../../../../../../../tmp/flotilla-escaped', content: 'x' }],
    'dots inside the path': () => [{ path: 'etc/../../../../../../../../../../../tmp/flotilla-escaped', content: 'x' }],
    'a symlink, then a file through it': () => [
      { path: 'door', target: '/tmp' },
      { path: 'door/flotilla-escaped', content: 'x' },
    ],
    'a relative symlink, then a file through it': () => [
      { path: 'door', target: '../../../../../../../../../../tmp' },
      { path: 'door/flotilla-escaped', content: 'x' },
    ],
    'a symlink to the roots of the engine': () => [
      { path: 'door', target: stack.host.directory },
      { path: 'door/escaped', content: 'x' },
    ],
    'a hard link to a file of the host': () => [
      { path: 'stolen', type: 'link', target: '../../../../../../../../../../etc/hostname' },
      { path: 'stolen', content: 'overwritten' },
    ],
    'a hard link by an absolute path': () => [{ path: 'stolen', type: 'link', target: '/etc/shadow' }],
    'a whiteout of what is above': () => [{ path: '../../../../../../../../../../tmp/.wh.flotilla-kept', content: '' }],
    'a whiteout of the root': () => [{ path: '.wh...', content: '' }],
  };

  for (const [name, entries] of Object.entries(ways)) {
    it(`${name}: nothing outside is touched`, async () => {
      await stack.host.sh('echo kept > /tmp/flotilla-kept; cp /etc/hostname /tmp/flotilla-hostname');
      const image = await buildImage({
        layers: [[...busyboxLayer(), { path: 'own', content: name }], entries()],
        config: { Cmd: ['true'] },
      });
      const loaded = await stack.host.dockerWith({ input: await dockerArchive([{ image, tags: ['escape/layer:latest'] }]) }, 'load');
      const reference = await stack.push(image, 'escape/layer');
      const pulled = await stack.host.docker('pull', reference);
      expect(existsSync('/tmp/flotilla-escaped')).toBe(false);
      expect(existsSync(outside())).toBe(false);
      expect((await stack.host.sh('cat /tmp/flotilla-kept; cmp /etc/hostname /tmp/flotilla-hostname')).trim()).toBe('kept');
      // Both answers are fine, refused or kept inside; an accepted one must not show the host's files.
      for (const [accepted, what] of [
        [loaded.code === 0, 'escape/layer:latest'],
        [pulled.code === 0, reference],
      ] as const) {
        if (!accepted) continue;
        const shown = await stack.host.docker('run', '--rm', '--network', 'none', what, 'cat', '/stolen');
        expect(shown.stdout).not.toContain('root:');
        await stack.host.docker('rmi', '-f', what);
      }
      await stack.host.sh('rm -f /tmp/flotilla-kept /tmp/flotilla-hostname');
    });
  }

  it('archives that are none are refused', async () => {
    for (const input of ['', 'not a tar', Buffer.alloc(1_000_000), Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(5_000, 'x')])]) {
      const result = await stack.host.dockerWith({ input }, 'load');
      expect(result.code).not.toBe(0);
      expect(result.stderr).not.toBe('');
    }
  });

  it('an archive whose manifest points outside is refused', async () => {
    for (const path of ['../../../../../etc/passwd', '/etc/passwd', 'missing.json']) {
      const input = await buildTar([
        { path: 'manifest.json', content: JSON.stringify([{ Config: path, RepoTags: ['bad:latest'], Layers: [path] }]) },
      ]);
      const result = await stack.host.dockerWith({ input }, 'load');
      expect(result.code).toBe(1);
      expect(result.stderr).not.toBe('');
      expect(result.stderr + result.stdout).not.toContain('root:');
    }
  });

  it('leave no temporary directory behind', () => {
    const temporary = (directory: string): string[] =>
      readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
        const path = join(directory, entry.name);
        if (/^(tmp|temp|ingest)/i.test(entry.name) && entry.isDirectory()) return readdirSync(path).map((name) => join(path, name));
        return [];
      });
    expect(temporary(join(stack.host.dataRoot, 'image-service'))).toEqual([]);
  });
});

describe('spoiled archives for containers', () => {
  const count = process.env.FLOTILLA_SOAK === '1' ? 400 : 30;

  it('are taken or refused in words, and stay inside', { timeout: 20_000 + count * 1000 }, async () => {
    const { host } = stack;
    const container = (await host.mustDocker('create', stack.busybox)).trim();
    const pids = async (): Promise<number[]> => (await host.processes()).map(({ pid }) => pid).sort();
    const [before, outside] = [await pids(), strayNames('/')];
    const tar = await buildTar(everyKind);
    const answers = { taken: 0, refused: 0 };
    for (let seed = 1; seed <= count; seed++) {
      const random = new Random(seed);
      const path = random.pick(['/', '/tmp', '/root', `/d/${escapeName}`]);
      const request = { body: spoiledTar(tar, random), headers: { 'content-type': 'application/x-tar' } };
      const { status, message } = await engineApi(host, 'PUT', `/v1.50/containers/${container}/archive?path=${path}`, request);
      const context = `seed ${seed}: ${status} ${message}`;
      if (status === 200) answers.taken++;
      else {
        answers.refused++;
        expect([400, 404, 500], context).toContain(status);
        expect(message, context).toMatch(/\w/);
        expect(message, context).not.toMatch(
          /undefined|NaN|\[object|TypeError|RangeError|not a function|\bE[A-Z]{4,}\b|call stack|flotilla-test/,
        );
      }
      expect(strayNames('/'), context).toEqual(outside);
    }
    expect(await pids()).toEqual(before);
    expect(Math.min(answers.taken, answers.refused)).toBeGreaterThan(0);
    await host.mustDocker('rm', container);
  });
});
